"""Which layout a model gets: asked of the model, and the same losses in both."""

import numpy as np
import pytest
import torch
from tiny_trainings import Runs, model_with_windows
from transformers import AutoModelForCausalLM

from persodpo.errors import UserError
from persodpo.train.layout import choose_layout, shared_layout_error
from persodpo.train.rows import TokenisedRow


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    return Runs(tiny_model, tmp_path, monkeypatch)


@pytest.mark.slow
def test_the_layout_is_in_the_key_of_the_reference_values(run, tokenizer, tmp_path):
    """A model that takes masks in one layout only has other values in each."""
    model_with_windows(tmp_path / "windows", tokenizer)
    with pytest.MonkeyPatch.context() as patch:  # as it was before a forced layout was checked
        patch.setattr("persodpo.train.layout.shared_layout_error", lambda *_: None)
        run("shared", model=tmp_path / "windows", layout="shared")
    auto = run("auto", model=tmp_path / "windows", layout="auto").log
    assert auto["rewards/margins"].iloc[0] == pytest.approx(0, abs=1e-5)


@pytest.mark.slow
def test_the_layouts_give_the_same_losses(run):
    logs = {layout: run(layout, layout=layout).log for layout in ("shared", "separate")}
    assert np.allclose(logs["shared"]["loss"], logs["separate"]["loss"], rtol=1e-4)
    tokens = [log["num_tokens"].iloc[-1] for log in logs.values()]
    assert tokens[0] < tokens[1]


@pytest.mark.slow
def test_a_model_that_cannot_share_prompts_gets_trls_layout(run, tokenizer, tmp_path, capsys):
    """Sliding windows shorter than the prompt are ignored by a mask of one's own."""
    model = model_with_windows(tmp_path / "windows", tokenizer)
    done = run("policy", model=tmp_path / "windows")
    message = capsys.readouterr().err
    assert "each answer gets a prompt of its own, because MistralForCausalLM gives" in message
    assert np.isfinite(done.log["loss"]).all()
    rows = [TokenisedRow((5, 6, 7), ((8, 9), (10,)), ())]
    assert shared_layout_error(model, rows, 2, torch.float32) is None  # all fits into the window
    # so do this one's sequences, though it has most tokens in all, but not the other's
    many = TokenisedRow((5,), tuple((token, 7, 8, 9) for token in range(10, 20)), ())
    long = TokenisedRow(tuple(range(5, 18)), ((8, 9), (10,)), ())
    assert shared_layout_error(model, [many, rows[0]], 2, torch.float32) is None
    assert shared_layout_error(model, [many, long], 2, torch.float32)
    assert choose_layout("shared", model, rows, 2, torch.float32) == "shared"
    # nor is it forced upon a model that can't have it
    with pytest.raises(UserError, match=r"train\.layout is shared, but MistralForCausalLM gives"):
        choose_layout("shared", model, [many, long], 2, torch.float32)


def test_a_model_that_fails_on_a_mask_is_reported(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    forward = model.forward

    def picky(*args, attention_mask, **kwargs):
        if attention_mask.dim() == 4:
            raise ValueError("no such masks")
        return forward(*args, attention_mask=attention_mask, **kwargs)

    model.forward = picky
    rows = [TokenisedRow((5, 6, 7), ((8, 9), (10,)), ())]
    assert "no such masks" in shared_layout_error(model, rows, 2, torch.float32)
