"""The loss, the layout and the trainer, held to TRL's own trainer on a tiny model."""

import json
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, set_seed
from trl import DPOConfig, DPOTrainer

from persodpo.errors import UserError
from persodpo.model_params import TransformersModel
from persodpo.pairing import Pair, pair_weights
from persodpo.params import MethodParams, TrainParams, load_params
from persodpo.training.collator import SharedPromptCollator
from persodpo.training.groups import group_pairs, tokenize_group
from persodpo.training.loss import dpo_losses, shared_prompt_logps
from persodpo.training.reference import reference_logps
from persodpo.training.run import train_policy
from persodpo.training.trainer import ScoreWeightedDPOTrainer

LORA = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": "all-linear"}


def make_pair(prompt_id, prompt, chosen, rejected, scores=(0.9, 0.4)):
    return Pair.model_validate(
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
            "prompt_id": prompt_id,
            "model_chosen": "a",
            "model_rejected": "b",
            "score_chosen": scores[0],
            "score_rejected": scores[1],
        }
    )


PAIRS = [
    make_pair("p1", "Where is the tower?", "In Paris, by the river.", "No."),
    make_pair(
        "p1", "Where is the tower?", "In Paris, by the river.", "tower tower tower", (0.9, 0)
    ),
    make_pair("p1", "Where is the tower?", "No.", "tower tower tower", (0.4, 0)),
    make_pair("p2", "And how high is it, do you know?", "330 metres.", "High."),
]


def config(folder, **changes):
    values = {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "max_steps": 1, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "beta": 0.5, "max_length": 512, "seed": 0,
        "max_grad_norm": 1e9, "lr_scheduler_type": "constant", "optim": "sgd",
    }  # fmt: skip
    return DPOConfig(**(values | changes))


def perturb(trainer):
    """Move the adapter away from the identity, in the same way for every trainer."""
    set_seed(7)
    with torch.no_grad():
        for name, weight in sorted(trainer.model.named_parameters()):
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape) * 0.3)


def ours(tiny_model, tokenizer, folder, weights=(1.0, 1.0, 1.0, 1.0), sft_weight=0.0, **changes):
    values = iter(weights)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    collator = SharedPromptCollator(tokenizer.pad_token_id)
    rows = [
        row
        | tokenize_group(row, tokenizer, 512)
        | {"weight": [next(values) for _ in row["chosen"]]}
        for row in group_pairs(PAIRS)
    ]
    references = reference_logps(model, rows, collator, folder / "reference")
    rows = [row | {"reference": each} for row, each in zip(rows, references, strict=True)]
    trainer = ScoreWeightedDPOTrainer(
        sft_weight=sft_weight,
        model=model,
        args=config(folder, **({"per_device_train_batch_size": len(rows)} | changes)),
        train_dataset=Dataset.from_list(rows),
        data_collator=collator,
        processing_class=tokenizer,
        peft_config=LoraConfig(**LORA),
    )
    perturb(trainer)
    return trainer


def stock(tiny_model, tokenizer, folder, **changes):
    fields = ("prompt", "chosen", "rejected")
    rows = [pair.model_dump(include=set(fields)) for pair in PAIRS]
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=config(folder, **changes),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(**LORA),
    )
    perturb(trainer)
    return trainer


def loss_and_gradient(trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])
    return loss.item(), gradient


def test_weight_1_is_trls_own_loss_and_gradient(tiny_model, tokenizer, tmp_path):
    loss, gradient = loss_and_gradient(ours(tiny_model, tokenizer, tmp_path))
    expected, expected_gradient = loss_and_gradient(stock(tiny_model, tokenizer, tmp_path))
    assert expected != pytest.approx(np.log(2), abs=1e-3)  # the adapter does act
    assert loss == pytest.approx(expected, abs=1e-5)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()


def test_the_weight_reaches_the_gradient(tiny_model, tokenizer, tmp_path):
    gradients = {
        weights: loss_and_gradient(ours(tiny_model, tokenizer, tmp_path, weights))[1]
        for weights in [(1.0, 1.0, 1.0, 1.0), (2.0, 1.0, 1.0, 1.0), (1.0, 0.0, 0.0, 0.0)]
    }
    even, doubled, alone = gradients.values()
    # doubling a pair's weight adds that pair's gradient once more
    assert alone.norm() > 1e-3
    assert (doubled - even - alone).norm() <= 1e-3 * alone.norm()


def test_the_sft_term_is_the_mean_token_nll_of_the_chosen_answers(tiny_model, tokenizer, tmp_path):
    with_sft, _ = loss_and_gradient(ours(tiny_model, tokenizer, tmp_path, sft_weight=2.0))
    without, _ = loss_and_gradient(ours(tiny_model, tokenizer, tmp_path))
    model = ours(tiny_model, tokenizer, tmp_path).model.eval()
    nll = []
    for pair in PAIRS:
        group = group_pairs([pair])[0]
        tokens = tokenize_group(group, tokenizer, 512)
        prompt, answer = tokens["prompt_ids"], tokens["answer_ids"][group["chosen"][0]]
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        nll.append(model(input_ids=ids, labels=labels).loss.item())
    assert with_sft - without == pytest.approx(2.0 * np.mean(nll), rel=1e-4)


def test_pairs_count_alike_whatever_they_are_batched_with(tiny_model, tokenizer, tmp_path):
    together, gradient = loss_and_gradient(ours(tiny_model, tokenizer, tmp_path))
    alone = ours(tiny_model, tokenizer, tmp_path, per_device_train_batch_size=1)
    alone.model.zero_grad()
    losses = []
    for batch in alone.get_train_dataloader():
        loss = alone.compute_loss(alone.model, alone._prepare_inputs(batch))
        (loss / 2).backward()
        losses.append(loss.item())
    summed = torch.cat([p.grad.flatten() for p in alone.model.parameters() if p.requires_grad])
    assert np.mean(losses) == pytest.approx(together, abs=1e-5)
    assert (summed - gradient).norm() <= 1e-4 * gradient.norm()


def test_the_logged_numbers(tiny_model, tokenizer, tmp_path):
    trainer = ours(tiny_model, tokenizer, tmp_path, weights=(1.0, 0.5, 0.5, 2.0))
    reference = stock(tiny_model, tokenizer, tmp_path)
    for each in (trainer, reference):
        each.train()
    log, expected = trainer.state.log_history[0], reference.state.log_history[0]
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
        assert log[name] == pytest.approx(expected[name], abs=1e-5)
    assert log["loss/dpo"] == pytest.approx(expected["loss"], abs=1e-4)
    assert log["weight/mean"] == pytest.approx(1.0)


answers = st.lists(st.integers(3, 200), min_size=1, max_size=5)


@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(3, 200), min_size=1, max_size=6),
                  st.lists(answers, min_size=2, max_size=4)),
        min_size=1, max_size=3,
    )
)  # fmt: skip
def test_a_shared_prompt_gives_the_log_probabilities_of_separate_rows(rows, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    batch = SharedPromptCollator(pad_token_id=2)(
        [{"prompt_ids": p, "answer_ids": a, "chosen": [0], "rejected": [1], "weight": [1.0]}
         for p, a in rows]
    )  # fmt: skip
    with torch.no_grad():
        shared = shared_prompt_logps(model, batch)
        expected = []
        for prompt, row_answers in rows:
            for answer in row_answers:
                logps = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
                positions = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
                expected.append(
                    sum(logps[i, t].item() for i, t in zip(positions, answer, strict=True))
                )
    assert shared.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_reference_values_are_computed_once(tiny_model, tokenizer, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    collator = SharedPromptCollator(tokenizer.pad_token_id)
    rows = [tokenize_group(row, tokenizer, 512) for row in group_pairs(PAIRS)]
    passes = []
    hook = model.register_forward_hook(lambda *_: passes.append(1))
    first = reference_logps(model, rows, collator, tmp_path)
    assert len(passes) == 2
    # the other way round, and in other company: nothing is computed again
    fewer = [{**rows[0], "answer_ids": rows[0]["answer_ids"][1:]}]
    assert reference_logps(model, [rows[1], *fewer], collator, tmp_path) == [
        first[1],
        first[0][1:],
    ]
    assert len(passes) == 2
    hook.remove()
    with torch.no_grad():
        next(model.parameters()).mul_(1.1)
    assert reference_logps(model, rows, collator, tmp_path) != first  # other weights, other values


@given(st.lists(st.floats(-3, 3), min_size=1), st.floats(0.05, 5))
def test_weights_are_the_sigmoid_of_the_difference(differences, temperature):
    weights = pair_weights(differences, temperature, "none")
    expected = [1 / (1 + np.exp(-d / temperature)) for d in differences]
    assert weights.tolist() == pytest.approx(expected)
    assert pair_weights(differences, temperature, "mean_one").mean() == pytest.approx(1.0)


@given(st.lists(st.floats(-50, 0), min_size=4, max_size=4), st.floats(0.01, 2))
def test_the_loss_of_a_pair(logps, beta):
    chosen, rejected, ref_chosen, ref_rejected = logps
    losses, rewards = dpo_losses(
        torch.tensor([chosen, rejected], dtype=torch.float64),
        torch.tensor([ref_chosen, ref_rejected], dtype=torch.float64),
        torch.tensor([0]), torch.tensor([1]), beta,
    )  # fmt: skip
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    assert losses.item() == pytest.approx(np.logaddexp(0, -margin), abs=1e-9)
    assert rewards.tolist() == pytest.approx([beta * (chosen - ref_chosen),
                                              beta * (rejected - ref_rejected)])  # fmt: skip


def test_pairs_are_grouped_by_prompt():
    first, second = group_pairs(PAIRS)
    assert first["answers"] == ["In Paris, by the river.", "No.", "tower tower tower"]
    assert list(zip(first["chosen"], first["rejected"], strict=True)) == [(0, 1), (0, 2), (1, 2)]
    assert first["difference"] == pytest.approx([0.5, 0.9, 0.4])
    assert second["prompt_id"] == "p2"


def test_the_tokens_are_the_chat_templates(tokenizer):
    group = group_pairs(PAIRS)[0]
    tokens = tokenize_group(group, tokenizer, 512)
    whole = tokenizer.decode(tokens["prompt_ids"] + tokens["answer_ids"][0])
    assert "user\nWhere is the tower?<|im_end|>\n<|im_start|>assistant\nIn Paris, by" in whole
    assert whole.endswith("river.<|im_end|>\n")
    length = len(tokens["prompt_ids"]) + max(map(len, tokens["answer_ids"]))
    tokenize_group(group, tokenizer, length)
    with pytest.raises(UserError, match=re.escape(f"more than train.max_length = {length - 1}")):
        tokenize_group(group, tokenizer, length - 1)


@pytest.fixture
def settings(tiny_model):
    shipped = load_params().train.model_dump()
    params = TrainParams.model_validate(
        shipped | {"batch_size": 1, "gradient_accumulation": 1, "warmup_steps": 0, "lora_r": 4,
                   "learning_rate": 0.05, "epochs": 2}
    )  # fmt: skip
    base = TransformersModel(backend="transformers", model=str(tiny_model), revision=None,
                             persona=True, temperature=0.0, top_p=1.0, seed=0)  # fmt: skip
    return params, base


def test_a_whole_run(settings, tmp_path, tokenizer):
    params, base = settings
    method = MethodParams(pairs="persodpo", weight="score", sft_weight=1.0)
    runs = [train_policy(PAIRS, method, params, base, tmp_path / name / "adapter") for name in "ab"]
    log = runs[0].log
    assert log["step"].tolist() == [1, 2, 3, 4]
    assert {"loss", "grad_norm", "rewards/margins", "rewards/accuracies"} <= set(log.columns)
    assert log["weight/mean"].between(0.5, 1).all()
    assert runs[0].metrics["pairs"] == 4
    assert log["loss"].tolist() == runs[1].log["loss"].tolist()  # same seed, same losses
    assert sorted(file.name for file in (tmp_path / "a/adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors"]  # fmt: skip
    saved = [(tmp_path / n / "adapter/adapter_config.json").read_text() for n in "ab"]
    assert saved[0] == saved[1]
    targets = json.loads(saved[0])["target_modules"]
    assert targets == sorted(targets)
    assert json.loads(saved[0])["base_model_name_or_path"] == base.model
    one, two = (load_file(tmp_path / n / "adapter/adapter_model.safetensors") for n in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)
    model = AutoModelForCausalLM.from_pretrained(base.model)
    ids = torch.tensor([tokenizer("Where is the tower?")["input_ids"]])
    before = model(ids).logits
    after = PeftModel.from_pretrained(model, tmp_path / "a/adapter")(ids).logits
    assert not torch.allclose(before, after)


def test_methods_differ_in_what_they_say(settings, tmp_path):
    params, base = settings
    losses = {
        name: train_policy(PAIRS, method, params, base, tmp_path / name).log["loss"].tolist()
        for name, method in {
            "none": MethodParams(pairs="persodpo", weight="none", sft_weight=0.0),
            "score": MethodParams(pairs="persodpo", weight="score", sft_weight=0.0),
            "sft": MethodParams(pairs="persodpo", weight="score", sft_weight=1.0),
        }.items()
    }
    # at the first step the policy is the reference, and every pair's loss is log 2
    pairs_at_first_step = group_pairs(PAIRS)
    assert losses["none"][0] in [
        pytest.approx(np.log(2) * len(row["chosen"]) / 2, rel=1e-4) for row in pairs_at_first_step
    ]
    assert losses["score"][0] < losses["none"][0] < losses["sft"][0]


def test_no_pairs(settings, tmp_path):
    params, base = settings
    with pytest.raises(UserError, match="has no pairs to train on"):
        train_policy([], MethodParams(pairs="dpo", weight="none", sft_weight=0), params, base,
                     tmp_path)  # fmt: skip
