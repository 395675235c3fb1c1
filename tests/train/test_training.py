"""The loss, the layout and the trainer, held to TRL's own trainer on a tiny model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import chat_template
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig
from tiny_models import perturb
from tiny_trainings import PAIRS, method_params
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from persodpo.train.collator import PromptCollator
from persodpo.train.loss import answer_logps, dpo_losses, linear_losses
from persodpo.train.reference import with_reference_logps
from persodpo.train.rows import TokenisedRow, group_by_prompt, tokenise
from persodpo.train.trainer import PLANNED, ScoreWeightedDPOTrainer
from persodpo.train.weighting import pair_weights

ADAPTER = {"task_type": "CAUSAL_LM", "r": 4, "target_modules": "all-linear"}


def config(folder, **changes):
    values = {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "max_steps": 1, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
        "save_strategy": "no", "logging_steps": 1, "beta": 0.5, "max_length": 512, "seed": 0,
        "max_grad_norm": 1e9, "lr_scheduler_type": "constant", "optim": "sgd",
    }  # fmt: skip
    return DPOConfig(**(values | changes))


def training_data(folder, model, tokenizer, weights, offsets=None, layout="shared"):
    """The rows of PAIRS as the trainer takes them, and their collator."""
    values = iter(zip(weights, offsets or [0.0] * len(weights), strict=True))
    collator = PromptCollator(tokenizer.pad_token_id, layout)
    rows = []
    for group in group_by_prompt(PAIRS):
        row = tokenise(group, chat_template(tokenizer), 512)
        pairs = [(pair, *next(values)) for pair in row.pairs]
        pairs = tuple(replace(pair, weight=w, offset=o) for pair, w, o in pairs)
        rows.append(replace(row, pairs=pairs))
    return with_reference_logps(model, {}, rows, collator, folder / "reference"), collator


def ours(
    tiny_model, tokenizer, folder, weights=(1.0, 1.0, 1.0, 1.0), sft_weight=0.0, offsets=None,
    layout="shared", plan=((0, 1),), loss="sigmoid", **changes,
):  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    rows, collator = training_data(folder, model, tokenizer, weights, offsets, layout)
    trainer = ScoreWeightedDPOTrainer(
        train=rows,
        held_out=[],
        collator=collator,
        plan=[list(each) for each in plan],
        steps=1,
        method=method_params(loss=loss, sft_weight=sft_weight),
        model=model,
        args=config(folder, **(PLANNED | changes)),
        processing_class=tokenizer,
        peft_config=LoraConfig(**ADAPTER),
    )
    perturb(trainer, 0.3)
    return trainer


def stock(tiny_model, tokenizer, folder, **changes):
    fields = ("prompt", "chosen", "rejected")
    rows = [pair.model_dump(include=set(fields)) for pair in PAIRS]
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model),
        args=config(folder, **changes),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(**ADAPTER),
    )
    perturb(trainer, 0.3)
    return trainer


def loss_and_gradient(trainer):
    """Of the mean over all passes of a step."""
    batches = list(trainer.get_train_dataloader())
    trainer.model.zero_grad()
    losses = [
        trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch)) for batch in batches
    ]
    loss = sum(losses) / len(losses)
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad])
    return loss.item(), gradient


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_weight_1_is_trls_own_loss_and_gradient(tiny_model, tokenizer, tmp_path, layout):
    loss, gradient = loss_and_gradient(ours(tiny_model, tokenizer, tmp_path, layout=layout))
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
        row = tokenise(group_by_prompt([pair])[0], chat_template(tokenizer), 512)
        prompt, answer = row.prompt_ids, row.answer_ids[row.pairs[0].chosen]
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([(-100,) * len(prompt) + answer])
        nll.append(model(input_ids=ids, labels=labels).loss.item())
    assert with_sft - without == pytest.approx(2.0 * np.mean(nll), rel=1e-4)


@pytest.mark.parametrize("plan", [((0,), (1,)), ((1, 0), ()), ((0,), (), (1,), ())])
def test_pairs_count_alike_however_a_step_is_cut(tiny_model, tokenizer, tmp_path, plan):
    together, gradient = loss_and_gradient(ours(tiny_model, tokenizer, tmp_path))
    passes = {"gradient_accumulation_steps": len(plan)}
    cut = ours(tiny_model, tokenizer, tmp_path, plan=plan, **passes)
    loss, summed = loss_and_gradient(cut)
    assert loss == pytest.approx(together, abs=1e-5)
    assert (summed - gradient).norm() <= 1e-4 * gradient.norm()


def test_batches_come_as_planned(tiny_model, tokenizer, tmp_path):
    plan = ((1,), (0,), (), (0, 1), (1,), (), (0,), (1, 0))
    trainer = ours(tiny_model, tokenizer, tmp_path, plan=plan)
    batches = list(trainer.get_train_dataloader())
    assert [len(batch["chosen"]) for batch in batches] == [1, 3, 0, 4, 1, 0, 3, 4]


def test_an_offset_demands_a_margin(tiny_model, tokenizer, tmp_path):
    """ODPO's loss: the same as if the rewards' margin were smaller by the offset."""
    trainer = ours(tiny_model, tokenizer, tmp_path, offsets=(0.5, 1.0, 0.0, 2.0))
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    rewards = 0.5 * (answer_logps(trainer.model, batch).logps - batch["reference_logps"])
    margins = (rewards[batch["chosen"]] - rewards[batch["rejected"]]).detach().double().numpy()
    expected = np.logaddexp(0, -(margins - [0.5, 1.0, 0.0, 2.0])).mean()
    assert loss_and_gradient(trainer)[0] == pytest.approx(expected, abs=1e-5)


def test_the_papers_equation_to_the_letter(tiny_model, tokenizer, tmp_path):
    """Its negative: no reference, no log-sigmoid; value and gradient by hand, pair by pair."""
    weights = (0.6, 0.7, 0.5, 0.65)
    trainer = ours(tiny_model, tokenizer, tmp_path, weights, loss="linear", beta=0.5)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    logps = answer_logps(trainer.model, batch).logps
    margins = logps[batch["chosen"]] - logps[batch["rejected"]]
    by_hand = -(torch.tensor(weights) * 0.5 * margins).mean()
    trainer.model.zero_grad()
    by_hand.backward()
    expected = torch.cat(
        [p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad]
    ).clone()
    loss, gradient = loss_and_gradient(trainer)
    assert loss == pytest.approx(by_hand.item(), abs=1e-5)
    assert (gradient - expected).norm() <= 1e-5 * expected.norm()
    # whatever the reference is
    changed = batch | {"reference_logps": batch["reference_logps"] - 7.0}
    assert trainer.compute_loss(trainer.model, changed).item() == pytest.approx(loss, abs=1e-5)


@given(st.lists(st.floats(-50, 0), min_size=2, max_size=2), st.floats(0.01, 2))
def test_the_linear_loss_of_a_pair(logps, beta):
    """The gradient is -beta for the chosen, +beta for the rejected, however far apart they are."""
    policy = torch.tensor(logps, dtype=torch.float64, requires_grad=True)
    losses = linear_losses(policy, torch.tensor([0]), torch.tensor([1]), beta)
    losses.sum().backward()
    assert losses.item() == pytest.approx(-beta * (logps[0] - logps[1]), abs=1e-9)
    assert policy.grad.tolist() == pytest.approx([-beta, beta])


@pytest.mark.slow
def test_the_logged_numbers(tiny_model, tokenizer, tmp_path):
    trainer = ours(tiny_model, tokenizer, tmp_path, weights=(1.0, 0.5, 0.5, 2.0))
    reference = stock(tiny_model, tokenizer, tmp_path)
    for each in (trainer, reference):
        each.train()
    log, expected = trainer.state.log_history[0], reference.state.log_history[0]
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"):
        assert log[name] == pytest.approx(expected[name], abs=1e-5)
    for name in ("logps/chosen", "logps/rejected"):
        assert log[name] == pytest.approx(expected[name], rel=1e-5)
    assert log["loss/pair"] == pytest.approx(expected["loss"], abs=1e-4)
    assert [log[f"weight/{name}"] for name in ("min", "mean", "max")] == [0.5, 1.0, 2.0]
    assert log["num_tokens"] < expected["num_tokens"] / 1.8
    # the differences .5, .9, .4, .7 in their thirds, and all thirds together the whole
    thirds = [log[f"rewards/accuracies_{name}_margin"] for name in ("small", "middle", "large")]
    counts = (2, 1, 1)
    assert np.average(thirds, weights=counts) == pytest.approx(log["rewards/accuracies"])
    assert expected.keys() - log.keys() == set()  # whatever TRL logs is there


@pytest.mark.slow
def test_numbers_of_single_tokens_are_trls(tiny_model, tokenizer, tmp_path, monkeypatch):
    """Where no answer is in two pairs, entropy, logits and accuracy are TRL's, too."""
    monkeypatch.setattr("test_training.PAIRS", [PAIRS[0], PAIRS[3]])
    trainer = ours(tiny_model, tokenizer, tmp_path, weights=(1.0, 1.0))
    reference = stock(tiny_model, tokenizer, tmp_path)
    for each in (trainer, reference):
        each.train()
    log, expected = trainer.state.log_history[0], reference.state.log_history[0]
    for name in ("entropy", "logits/chosen", "logits/rejected", "mean_token_accuracy"):
        assert log[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6)


answers = st.lists(st.integers(3, 200), min_size=1, max_size=5)


@pytest.mark.slow
@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(3, 200), min_size=1, max_size=6),
                  st.lists(answers, min_size=2, max_size=4)),
        min_size=1, max_size=3,
    ),
    layout=st.sampled_from(["shared", "separate"]),
)  # fmt: skip
def test_either_layout_gives_the_log_probabilities_of_plain_rows(rows, layout, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    tokenised = [TokenisedRow(tuple(p), tuple(map(tuple, a)), ()) for p, a in rows]
    batch = PromptCollator(2, layout).tokens(tokenised)
    with torch.no_grad():
        ours = answer_logps(model, batch)
        expected = []
        for prompt, row_answers in rows:
            for answer in row_answers:
                logps = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
                positions = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
                expected.append(
                    sum(logps[i, t].item() for i, t in zip(positions, answer, strict=True))
                )
    assert ours.logps.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_reference_values_are_computed_once(tiny_model, tokenizer, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    collator = PromptCollator(tokenizer.pad_token_id)
    rows = [tokenise(group, chat_template(tokenizer), 512) for group in group_by_prompt(PAIRS)]
    passes = []
    model.register_forward_hook(lambda *_: passes.append(1))

    def computed(rows, weights):
        done = with_reference_logps(model, {"weights": weights}, rows, collator, tmp_path)
        return [row.reference_logps for row in done]

    first = computed(rows, "a")
    assert len(passes) == 2
    # the other way round, and in other company: nothing is computed again
    fewer = replace(rows[0], answer_ids=rows[0].answer_ids[1:])
    assert computed([rows[1], fewer], "a") == [first[1], first[0][1:]]
    assert len(passes) == 2
    with torch.no_grad():
        next(model.parameters()).mul_(1.1)
    # another model's values are its own
    assert computed(rows, "b") != first
    assert len(passes) == 4


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
        torch.tensor([0]), torch.tensor([1]), beta, torch.zeros(1),
    )  # fmt: skip
    margin = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    assert losses.item() == pytest.approx(np.logaddexp(0, -margin), abs=1e-9)
    assert rewards.tolist() == pytest.approx([beta * (chosen - ref_chosen),
                                              beta * (rejected - ref_rejected)])  # fmt: skip
