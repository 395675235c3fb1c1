"""Supervised training, and methods that start from another one's policy."""

import json
import shutil

import pytest
import torch
from conftest import chat_template
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from test_training import ADAPTER, config, loss_and_gradient, ours
from tiny_models import perturb
from tiny_trainings import (
    DEMONSTRATIONS,
    LORA,
    PAIRS,
    Runs,
    method_params,
    weights,
)
from transformers import AutoModelForCausalLM
from trl import DPOTrainer, SFTConfig, SFTTrainer

from persodpo.errors import UserError
from persodpo.models.loading import load_policy
from persodpo.train.collator import PromptCollator
from persodpo.train.loss import rows_logps
from persodpo.train.policy import set_adapter_weights
from persodpo.train.reference import with_reference_logps
from persodpo.train.rows import group_by_prompt, tokenise
from persodpo.train.trainer import PLANNED, ScoreWeightedDPOTrainer

SFT = {"loss": "nll"}
FROM_SFT = {"start": "sft", "sft_weight": 0.0}


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    return Runs(tiny_model, tmp_path, monkeypatch)


def demonstration_rows(tokenizer):
    template = chat_template(tokenizer)
    return [tokenise(group, template, 512) for group in group_by_prompt(DEMONSTRATIONS)]


def policy_logps(tiny_model, folder, tokenizer, rows):
    model = load_policy(str(tiny_model), None, "m", folder, torch.float32)
    return rows_logps(model, rows, PromptCollator(tokenizer.pad_token_id)).tolist()


def test_supervised_training_makes_its_answers_likelier(run, tmp_path, tiny_model, tokenizer):
    done = run("sft", DEMONSTRATIONS, method=SFT, epochs=6)
    log = done.log
    assert log["loss/total"].iloc[-1] < log["loss/total"].iloc[0]
    assert log["loss/total"].tolist() == log["loss/nll_chosen"].tolist()
    # what is about preferences isn't there
    assert not [name for name in log if name.startswith(("rewards/", "weight/", "displaced/"))]
    assert done.metrics["answers"] == 2
    assert "pairs" not in done.metrics
    rows = demonstration_rows(tokenizer)
    before, after = (
        policy_logps(tiny_model, folder, tokenizer, rows) for folder in (None, tmp_path / "sft")
    )
    assert all(one < two for one, two in zip(before, after, strict=True))
    # nothing was compared with a reference, so none was computed
    assert not (tmp_path / ".cache/reference").exists()


@pytest.mark.slow
def test_supervised_training_has_trls_own_gradient(tiny_model, tokenizer, tmp_path):
    """Of one prompt: TRL takes the mean over all tokens of a batch, this project over answers."""
    (row,) = demonstration_rows(tokenizer)[:1]
    trainer = ScoreWeightedDPOTrainer(
        train=[row.with_reference([0.0])],
        held_out=[],
        collator=PromptCollator(tokenizer.pad_token_id, "separate"),
        plan=[[0]],
        steps=1,
        method=method_params(loss="nll"),
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=config(tmp_path, **PLANNED),
        processing_class=tokenizer,
        peft_config=LoraConfig(**ADAPTER),
    )
    ids = [*row.prompt_ids, *row.answer_ids[0]]
    labels = [-100] * len(row.prompt_ids) + list(row.answer_ids[0])
    stock = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=SFTConfig(
            output_dir=str(tmp_path / "stock"), per_device_train_batch_size=1, report_to="none",
            max_length=512, gradient_checkpointing=False, bf16=False, seed=0,
        ),
        train_dataset=Dataset.from_list([{"input_ids": ids, "labels": labels}]),
        processing_class=tokenizer,
        peft_config=LoraConfig(**ADAPTER),
    )  # fmt: skip
    for each in (trainer, stock):
        perturb(each, 0.3)
        each.model.train()
    loss, gradient = loss_and_gradient(trainer)
    expected, expected_gradient = loss_and_gradient(stock)
    assert loss == pytest.approx(expected, abs=1e-5)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()


def random_adapter(folder, tiny_model, seed=3):
    """An adapter of the shape of ADAPTER that changes what the model says."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(seed)
    model = get_peft_model(model, LoraConfig(**ADAPTER))
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.3)
    model.save_pretrained(folder)


@pytest.mark.slow
def test_with_a_start_loss_and_gradient_are_trls(tiny_model, tokenizer, tmp_path):
    """TRL trains a PeftModel's adapter further, with a copy of it as its reference."""
    start = tmp_path / "start"
    random_adapter(start, tiny_model)
    trainer = ours(tiny_model, tokenizer, tmp_path)
    reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), start)
    rows = [tokenise(group, chat_template(tokenizer), 512) for group in group_by_prompt(PAIRS)]
    collator = PromptCollator(tokenizer.pad_token_id)
    train = with_reference_logps(reference, {"start": "s"}, rows, collator, tmp_path / "reference")
    trainer = ScoreWeightedDPOTrainer(
        train=train,
        held_out=[],
        collator=collator,
        plan=[[0, 1]],
        steps=1,
        method=trainer.method,
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=config(tmp_path / "ours", **PLANNED),
        processing_class=tokenizer,
        peft_config=LoraConfig(**ADAPTER),
    )
    set_adapter_weights(trainer.model, start)
    fields = {"prompt", "chosen", "rejected"}
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    stock = DPOTrainer(
        model=PeftModel.from_pretrained(base, start, is_trainable=True),
        args=config(tmp_path / "stock"),
        train_dataset=Dataset.from_list([pair.model_dump(include=fields) for pair in PAIRS]),
        processing_class=tokenizer,
    )
    for each in (trainer, stock):
        nudge(each)
    loss, gradient = loss_and_gradient(trainer)
    expected, expected_gradient = loss_and_gradient(stock)
    assert expected != pytest.approx(0.693147, abs=1e-3)  # it has left its start
    assert loss == pytest.approx(expected, abs=1e-5)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()


def nudge(trainer):
    """Move the adapter that is trained, as a step would, by the same numbers in either trainer."""
    generator = torch.Generator().manual_seed(0)
    for name, value in sorted(trainer.model.named_parameters()):
        if value.requires_grad and ".default." in name:
            value.data += 0.1 * torch.randn(value.shape, generator=generator)


def test_the_start_is_the_first_policy_and_the_reference(run, tmp_path, tiny_model, tokenizer):
    run("sft", DEMONSTRATIONS, method=SFT)
    done = run("b", method=FROM_SFT | {"learning_rate": 1e-9}, epochs=1)
    # no step has moved it: what comes out is what it started from, and no answer's reward isn't 0
    one, two = weights(tmp_path / "sft"), weights(tmp_path / "b")
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    assert done.log["rewards/chosen"].abs().max() < 1e-4
    assert done.log["loss/pair"].tolist() == pytest.approx([0.693147] * 2, abs=1e-4)
    assert done.log["displaced/fall"].abs().max() < 1e-4
    # the base's own log-probabilities are others
    from_base = run("c", method=FROM_SFT | {"start": "base"}, epochs=1)
    difference = from_base.log["logps/chosen"].iloc[0] - done.log["logps/chosen"].iloc[0]
    assert abs(difference) > 0.1


@pytest.mark.slow
def test_a_chain_of_starts_is_one_adapter_on_the_base(run, tmp_path, tiny_model):
    run("sft", DEMONSTRATIONS, method=SFT)
    run("two", method=FROM_SFT)
    run("three", method={"start": "two", "weight": "none"})
    for name in ("two", "three"):
        config = json.loads((tmp_path / name / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == str(tiny_model)
        assert config["r"] == LORA["r"]
        files = sorted(file.name for file in (tmp_path / name).iterdir())
        assert files == ["adapter_config.json", "adapter_model.safetensors"]
    saved = [weights(tmp_path / name) for name in ("sft", "two", "three")]
    assert not all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])
    assert not all(torch.equal(saved[1][name], saved[2][name]) for name in saved[0])


@pytest.mark.slow
def test_whole_models_start_from_whole_models(run, tmp_path, tiny_model):
    run("sft", DEMONSTRATIONS, method=SFT, lora=None)
    done = run("b", method=FROM_SFT | {"learning_rate": 1e-9}, lora=None, epochs=1)
    assert (tmp_path / "b/model.safetensors").is_file()
    assert done.log["rewards/chosen"].abs().max() < 1e-4
    one, two = weights(tmp_path / "sft"), weights(tmp_path / "b")
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


@pytest.mark.slow
def test_another_start_has_other_references(run, tmp_path):
    run("sft", DEMONSTRATIONS, method=SFT)
    first = run("b", method=FROM_SFT, epochs=1).log["logps/chosen"].iloc[0]
    shutil.copytree(tmp_path / "sft", tmp_path / "other")
    file = tmp_path / "other/adapter_model.safetensors"
    saved = load_file(file)
    save_file({name: 2 * value for name, value in saved.items()}, file)
    again = run("b", method=FROM_SFT | {"start": "other"}, epochs=1)
    assert again.log["logps/chosen"].iloc[0] != pytest.approx(first, abs=1e-3)
    assert again.log["rewards/chosen"].iloc[0] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.slow
def test_a_start_that_these_settings_do_not_train_is_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"no trained policy to start from; run dvc repro train@sf"):
        run("b", method=FROM_SFT)
    run("sft", DEMONSTRATIONS, method=SFT)
    with pytest.raises(UserError, match=r"has r = 4 and alpha = 8, and .* r = 2 and alpha = 8"):
        run("b", method=FROM_SFT, lora=LORA | {"r": 2})
    with pytest.raises(UserError, match=r"is an adapter, and .* asks for a whole model"):
        run("b", method=FROM_SFT, lora=None)
    with pytest.raises(UserError, match=r"an adapter on other layers than those of .*targets"):
        run("b", method=FROM_SFT, lora=LORA | {"targets": ["q_proj"]})
    (tmp_path / "sft/adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"the policy to start from is .*can't be loaded"):
        run("b", method=FROM_SFT)
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_a_quantised_base_does_not_round_the_start(run, tmp_path):
    """TRL makes an adapter on a quantised base bfloat16; the start's numbers come after that."""
    pytest.importorskip("bitsandbytes")
    nf4 = {"lora": LORA | {"quantisation": "nf4"}}
    run("sft", DEMONSTRATIONS, method=SFT, **nf4)
    done = run("b", method=FROM_SFT | {"learning_rate": 1e-9}, epochs=1, **nf4)
    one, two = weights(tmp_path / "sft"), weights(tmp_path / "b")
    assert all(torch.allclose(one[name], two[name], atol=1e-7) for name in one)
    assert done.log["rewards/chosen"].abs().max() < 1e-3


@pytest.mark.slow
def test_sft_rows_share_a_step(run, tmp_path):
    """Two prompts of different lengths in one pass give what two passes give."""
    one = run("one", DEMONSTRATIONS, method=SFT, batch_size=2)
    two = run("two", DEMONSTRATIONS, method=SFT, batch_size=2, passes=2)
    assert one.log["loss/total"].tolist() == pytest.approx(two.log["loss/total"].tolist(), abs=1e-5)
    saved = [weights(tmp_path / name) for name in ("one", "two")]
    assert all(torch.allclose(saved[0][n], saved[1][n], atol=1e-5) for n in saved[0])
