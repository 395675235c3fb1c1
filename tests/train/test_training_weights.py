"""What is trained, and in which number format: an adapter or all weights, bfloat16, nf4."""

import json

import numpy as np
import pytest
import torch
from tiny_trainings import LORA, PAIRS, PROMPTS, Runs, weights
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaModel, PreTrainedModel

from persodpo.errors import UserError
from persodpo.models.loading import load_causal_lm


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    return Runs(tiny_model, tmp_path, monkeypatch)


@pytest.mark.slow
def test_alpha_and_seed_reach_the_adapter(run, tmp_path):
    one = run("one", method={"learning_rate": 1e-9})
    run("alpha", lora=LORA | {"alpha": 3}, method={"learning_rate": 1e-9})
    run("seed", seed=1, method={"learning_rate": 1e-9})
    saved = [json.loads((tmp_path / name / "adapter_config.json").read_text())["lora_alpha"]
             for name in ("one", "alpha", "seed")]  # fmt: skip
    assert saved == [8, 3, 8]
    first, alpha, seed = (weights(tmp_path / name) for name in ("one", "alpha", "seed"))
    drawn = [name for name in first if "lora_A" in name]
    assert all(torch.allclose(first[name], alpha[name], atol=1e-6) for name in drawn)
    assert not any(torch.allclose(first[name], seed[name], atol=1e-6) for name in drawn)
    # by the same seed the prompts come in the same order, by another one in another
    assert len({tuple(each.log["loss"].round(6)) for each in (one, run("again"))}) == 2


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(run, tmp_path, monkeypatch):
    run("plain")
    used = []
    forward = LlamaModel.forward
    monkeypatch.setattr(LlamaModel, "forward", lambda self, *args, **kwargs: (
        used.append(self.training and self.layers[0].gradient_checkpointing)
        or forward(self, *args, **kwargs)))  # fmt: skip
    run("checkpointed", gradient_checkpointing=True)
    assert any(used)
    one, two = weights(tmp_path / "plain"), weights(tmp_path / "checkpointed")
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


@pytest.mark.slow
def test_all_weights_are_trained_in_float32_without_a_second_model(
    run, tmp_path, tiny_model, capsys
):
    loaded = []
    original = PreTrainedModel.from_pretrained.__func__

    def counted(cls, *args, **kwargs):
        loaded.append(cls)
        return original(cls, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreTrainedModel, "from_pretrained", classmethod(counted))
        done = run("full", lora=None, dtype="bfloat16", method={"learning_rate": 1e-3})
    assert len(loaded) == 1
    assert "a prompt of its own" not in capsys.readouterr().err
    assert done.log["loss/pair"].iloc[0] == pytest.approx(np.log(2), rel=1e-3)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "full")
    assert policy.dtype is torch.float32
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    before, after = (next(model.parameters()) for model in (base, policy))
    assert not torch.equal(before, after)
    assert AutoTokenizer.from_pretrained(tmp_path / "full").chat_template


@pytest.mark.slow
def test_bfloat16(run, capsys):
    logs = {dtype: run(dtype, dtype=dtype).log for dtype in ("float32", "bfloat16")}
    assert "a prompt of its own" not in capsys.readouterr().err
    losses = [log["loss/total"] for log in logs.values()]
    assert np.allclose(*losses, rtol=0.1)
    assert logs["bfloat16"]["rewards/margins"].iloc[0] == 0  # the policy starts as its reference


@pytest.mark.parametrize("would_repack", [False, True])
def test_nf4(run, tiny_model, tmp_path, monkeypatch, would_repack):
    """Trained on quantised weights as on the same weights written out, step by step.

    Also where bitsandbytes would repack them, as on avx512_bf16: of widths that aren't multiples of
    its block it can't, and what it has repacked can't be trained through.
    """
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: would_repack)
    targets = LORA | {"targets": ["q_proj", "v_proj"]}
    quantised = targets | {"quantisation": "nf4"}
    written = load_causal_lm(str(tiny_model), None, "the test", torch.float32, nf4=True)
    written.dequantize().save_pretrained(tmp_path / "written")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "written")
    log = run("nf4", lora=quantised).log
    expected = run("of the written", model=tmp_path / "written", lora=targets).log
    assert log["rewards/margins"].iloc[0] == pytest.approx(0, abs=1e-4)
    for column in ("loss/total", "rewards/margins"):
        assert log[column].tolist() == pytest.approx(expected[column].tolist(), abs=5e-3)
    # the rounding to 4 bits shows, so the agreement isn't that of two plain trainings
    plain = run("plain", lora=targets).log
    assert abs(log["loss/total"].iloc[0] - plain["loss/total"].iloc[0]) > 0.02
    assert {each.dtype for each in weights(tmp_path / "nf4").values()} == {torch.float32}


def test_nf4_learns(run):
    """The loss of one prompt's pairs falls from step to step."""
    log = run("nf4", data=PAIRS[:3], prompts=PROMPTS[:1], method={"learning_rate": 0.01}, epochs=3,
              lora=LORA | {"targets": ["q_proj", "v_proj"], "quantisation": "nf4"}).log  # fmt: skip
    assert log["loss/total"].is_monotonic_decreasing
    assert log["loss/total"].iloc[-1] < log["loss/total"].iloc[0]
    assert len(log) == 3


def test_nf4_without_its_package(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *args: None)
    with pytest.raises(UserError, match="needs the package bitsandbytes"):
        run("nf4", lora=LORA | {"quantisation": "nf4"})


@pytest.mark.slow
def test_what_a_killed_run_left_beside_the_policy_does_not_get_into_it(run, tmp_path):
    left = tmp_path / ".whole.new"
    left.mkdir()
    (left / "adapter_config.json").write_text('{"target_modules": []}')
    run("whole", lora=None, epochs=1)
    files = {file.name for file in (tmp_path / "whole").iterdir()}
    assert "model.safetensors" in files
    assert "adapter_config.json" not in files


@pytest.mark.parametrize("target", ["q_prj", "lm_head", "embed_tokens", "mlp", "layers.9.q_proj"])
def test_a_layer_that_is_not_there(run, target):
    with pytest.raises(UserError, match=f"lora.targets has '{target}'.*q_proj"):
        run("none", lora=LORA | {"targets": ["v_proj", target]})


@pytest.mark.slow
def test_accelerates_own_precision_is_overruled(run, monkeypatch):
    plain = run("plain").log["loss"].tolist()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert run("overruled").log["loss"].tolist() == plain
