"""Pairs, prompts and a way to train a tiny model on them, for the tests of the training."""

from pathlib import Path

import pytest
import torch
from conftest import DATE, ROOT, transformers_model
from safetensors.torch import load_file
from transformers import MistralConfig, MistralForCausalLM

from persodpo.config.train import PairMethod, SftMethod, TrainParams
from persodpo.records import Demonstration, Pair, Prompt
from persodpo.train.run import TrainingRun, train_policy
from persodpo.workflow.params import load_params

METHOD = {
    "start": "base",
    "data": "persodpo",
    "loss": "sigmoid",
    "weight": "score",
    "weight_temperature": 1.0,
    "weight_normalisation": "none",
    "sft_weight": 1.0,
    "learning_rate": 0.05,
}
SFT = {"start": "base", "data": "golden", "loss": "nll", "learning_rate": 0.05}
LORA = {"r": 4, "alpha": 8, "targets": "all-linear", "quantisation": "none"}


def make_pair(prompt_id, prompt, chosen, rejected, scores=(0.9, 0.4), cut=(False, False)):
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
            "cut_chosen": cut[0],
            "cut_rejected": cut[1],
        }
    )


PAIRS = [
    make_pair("p1", "Where is the tower?", "In Paris, by the river.", "No."),
    make_pair(
        "p1", "Where is the tower?", "In Paris, by the river.", "tower tower tower", (0.9, 0)
    ),
    make_pair("p1", "Where is the tower?", "No.", "tower tower tower", (0.4, 0)),
    make_pair("p2", "And how high is it, do you know?", "330 metres.", "High.", (0.9, 0.2)),
]
MORE_PAIRS = [
    make_pair(f"q{number}", f"What is {number}?", f"{number} it is.", "No idea.", (0.5, 0.1))
    for number in range(6)
]


def prompts_of(pairs) -> list[Prompt]:
    texts = {pair.prompt_id: pair.prompt[0].content for pair in pairs}
    return [
        Prompt(id=id_, persona=[], turns=["x"], golden_answer="y", text=text)
        for id_, text in texts.items()
    ]


PROMPTS = prompts_of(PAIRS)
MORE_PROMPTS = prompts_of(MORE_PAIRS)
# To learn by themselves: the answers that the pairs prefer.
DEMONSTRATIONS = [
    Demonstration(prompt=pair.prompt, completion=pair.chosen, prompt_id=pair.prompt_id, cut=False)
    for pair in [PAIRS[0], PAIRS[3]]
]


def method_params(**changes) -> SftMethod | PairMethod:
    """METHOD, or SFT if the loss is nll."""
    if changes.get("loss") == "nll":
        return SftMethod(**(SFT | changes))
    return PairMethod(**(METHOD | changes))


def train_params(**changes) -> TrainParams:
    """The shipped ones, for short trainings."""
    values = {"warmup_steps": 0, "epochs": 2, "batch_size": 1, "max_length": 512, "lora": LORA}
    shipped = load_params(ROOT / "params.yaml").train.model_dump()
    return TrainParams.model_validate(shipped | values | changes)


def settings(model, policy, start=None, **changes):
    """What `train_policy` takes behind pairs and prompts, for 9 steps of 3 prompts each.

    In two processes a step has four passes, one of them empty.
    """
    values = {"epochs": 3, "batch_size": 3, "passes": 2, "checkpoint_steps": 2, "held_out": 0.1}
    method = method_params(start="sft" if start else "base")
    base = transformers_model(model)
    policy, start = Path(policy), Path(start) if start else None
    return method, train_params(**values | changes), base, 110, DATE, policy, start


class Runs:
    """Trainings of a tiny model in a folder of their own, with a cache of their own."""

    def __init__(self, tiny_model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DVC_ROOT", str(folder))
        self.folder, self.tiny_model = folder, tiny_model

    def __call__(
        self, name, data=PAIRS, prompts=PROMPTS, method=(), model=None, **changes
    ) -> TrainingRun:
        method = method_params(**dict(method))
        start = None if method.start == "base" else self.folder / method.start
        done = train_policy(
            data, prompts, method, train_params(**changes),
            transformers_model(model or self.tiny_model), 110, DATE, self.folder / name, start,
        )  # fmt: skip
        done.discard_checkpoints()
        return done


def weights(folder):
    (file,) = Path(folder).glob("*.safetensors")
    return load_file(file)


def model_with_windows(folder, tokenizer):
    """A model whose sliding windows are shorter than the prompts."""
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=8, initializer_range=0.5,
        max_position_embeddings=512,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MistralForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
