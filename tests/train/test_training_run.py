"""A whole training: policy, log, the same result again, and what ends it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from tiny_trainings import (
    MORE_PAIRS,
    MORE_PROMPTS,
    PAIRS,
    PROMPTS,
    Runs,
    make_pair,
    prompts_of,
    weights,
)
from transformers import AutoModelForCausalLM

from persodpo.errors import UserError
from persodpo.train.checkpoints import run_folder
from persodpo.train.loss import rows_logps


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    return Runs(tiny_model, tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_whole_run(run, tmp_path, tokenizer, tiny_model):
    runs = [run(f"{name}/adapter") for name in "ab"]
    log = runs[0].log
    assert log["step"].tolist() == [1, 2, 3, 4]
    assert {"loss", "grad_norm", "rewards/margins", "weight/min", "num_tokens"} <= set(log.columns)
    assert log["weight/mean"].between(0.5, 1).all()
    assert runs[0].metrics["pairs"] == 4
    assert log["loss"].tolist() == runs[1].log["loss"].tolist()  # same seed, same losses
    assert sorted(file.name for file in (tmp_path / "a/adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors"]  # fmt: skip
    saved = [(tmp_path / n / "adapter/adapter_config.json").read_text() for n in "ab"]
    assert saved[0] == saved[1]
    targets = json.loads(saved[0])["target_modules"]
    assert targets == sorted(targets)
    assert json.loads(saved[0])["base_model_name_or_path"] == str(tiny_model)
    one, two = (weights(tmp_path / n / "adapter") for n in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.tensor([tokenizer("Where is the tower?")["input_ids"]])
    before = model(ids).logits
    after = PeftModel.from_pretrained(model, tmp_path / "a/adapter")(ids).logits
    assert not torch.allclose(before, after)
    assert not any((tmp_path / ".cache/training").glob("*/"))  # nothing is left to go on from


@pytest.mark.slow
def test_methods_differ_in_what_they_say(run):
    losses = {
        name: run(name, method=method).log["loss"].tolist()
        for name, method in {
            "none": {"weight": "none", "sft_weight": 0.0},
            "score": {"weight": "score", "sft_weight": 0.0},
            "offset": {"weight": "margin_offset", "sft_weight": 0.0},
            "sft": {"weight": "score", "sft_weight": 1.0},
        }.items()
    }
    # at the first step the policy is the reference, and every pair's loss is log 2
    assert losses["none"][0] in [pytest.approx(np.log(2) * n / 2, rel=1e-4) for n in (1, 3)]
    assert losses["score"][0] < losses["none"][0] < losses["offset"][0]
    assert losses["none"][0] < losses["sft"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ("linear", [0, 0.5, 1, 0.5, 0]),
        ("cosine", [0, 0.5, 1, 0.5, 0]),
        ("constant_with_warmup", [0, 0.5, 1, 1, 1]),
    ],
)
def test_schedule_and_warm_up(run, scheduler, rates):
    """Two steps up to the peak and two down; a cosine is half way down where a line is, too."""
    log = run("s", scheduler=scheduler, warmup_steps=2, epochs=2).log
    assert log["learning_rate"].tolist() == pytest.approx([0.05 * r for r in rates[:4]])
    log = run("t", scheduler=scheduler, warmup_steps=0, epochs=2).log
    down = {"linear": [1, 0.75, 0.5, 0.25], "constant_with_warmup": [1] * 4,
            "cosine": [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]}[scheduler]  # fmt: skip
    assert log["learning_rate"].tolist() == pytest.approx([0.05 * r for r in down])


def test_answers_that_begin_with_white_space_are_trained(run, chat_model, capsys):
    """Of a tokenizer that merges line feeds, as Qwen2's: each pair, and none left out."""
    whites = ["\n", "\n\n", "  ", "\n  \n", ""]
    pairs = [
        make_pair(f"q{i}", f"What is {i}?", f'{white}{{"response": "{i}"}}', white, (0.9, 0.1))
        for i, white in enumerate(whites)
    ]
    done = run("white", pairs, prompts_of(pairs), model=chat_model, epochs=1)
    assert done.metrics["pairs"] == 5
    assert np.isfinite(done.log["loss"]).all()
    assert "left out" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_pair_that_cannot_be_laid_out_is_left_out_and_counted(run, tiny_model, tmp_path, capsys):
    """Here the template writes the prompt otherwise before some answers."""
    for file in Path(tiny_model).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    template = (tmp_path / "chat_template.jinja").read_text()
    odd = "{% if 'No.' in messages[-1]['content'] %}Listen! {% endif %}"
    (tmp_path / "chat_template.jinja").write_text(odd + template)
    done = run("odd", model=tmp_path)
    assert done.metrics["pairs"] == 2
    assert "2 of 4 pairs are left out, because the tokenizer can't write" in capsys.readouterr().err
    with pytest.raises(UserError, match="so none of the pairs can be trained"):
        run("none", [PAIRS[0]], PROMPTS, model=tmp_path)


@pytest.mark.slow
def test_another_beta_needs_no_reference_pass(run, monkeypatch):
    passes = []
    monkeypatch.setattr("persodpo.train.reference.rows_logps", lambda *args: (
        passes.append(1) or rows_logps(*args)))  # fmt: skip
    run("a")
    assert len(passes) == 2
    run("b", beta=0.5, epochs=1, method={"learning_rate": 0.001, "weight_temperature": 0.3})
    assert len(passes) == 2


@pytest.mark.slow
def test_steps_of_pairs_and_passes_give_the_same_policy(run, tmp_path):
    run("whole", MORE_PAIRS, MORE_PROMPTS, batch_unit="pairs", batch_size=3)
    cut = run("cut", MORE_PAIRS, MORE_PROMPTS, batch_unit="pairs", batch_size=3, passes=2)
    assert cut.metrics["steps"] == 4
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


@pytest.mark.slow
def test_held_out_pairs_and_early_stopping(run):
    # at this learning rate the held-out loss goes up and down
    settings = {"held_out": 0.3, "eval_steps": 1, "epochs": 2}
    method = {"learning_rate": 0.5, "sft_weight": 0.0}
    whole = run("whole", MORE_PAIRS, MORE_PROMPTS, method, **settings)
    assert whole.metrics["steps"] == 8
    assert whole.log["eval_loss"].notna().all()
    assert {"eval_rewards/accuracies", "eval_rewards/margins"} <= set(whole.log.columns)
    stopped = run("stopped", MORE_PAIRS, MORE_PROMPTS, method, early_stopping=2, **settings)
    assert stopped.metrics["steps"] < 8
    losses = stopped.log["eval_loss"]
    assert losses.idxmin() == len(losses) - 3  # twice in a row it hadn't fallen
    assert stopped.metrics["held_out_loss"] == losses.min()


def test_no_pairs(run):
    with pytest.raises(UserError, match=r"pairs/persodpo\.jsonl has nothing to train on.*pair\)"):
        run("none", data=[])
    with pytest.raises(UserError, match=r"pairs/golden\.jsonl has nothing to .*repro sample\)"):
        run("none", data=[], method={"loss": "nll"})


def test_a_loss_that_is_no_number_ends_the_run(run, tmp_path):
    with pytest.raises(UserError, match=r"The loss isn't a number at step [234]"):
        run("none", method={"learning_rate": 0.9}, max_grad_norm=1e38, beta=1e38, epochs=4)
    assert not (tmp_path / "none").exists()


def test_one_process_on_several_devices_is_refused(run, monkeypatch):
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    with pytest.raises(UserError, match="launch starts one process on 2 accelerators"):
        run("none")


def test_another_setting_is_another_run(tmp_path):
    names = {run_folder(tmp_path, {"params": {"beta": beta}}) for beta in (0.1, 0.2, 0.1)}
    assert len(names) == 2
