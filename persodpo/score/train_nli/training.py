"""Train an NLI classifier, and measure it as the scorers will use it.

All weights of the base model are trained, as PersoBench's BERTs were. What is written is
the whole checkpoint, or an adapter that holds what training changed.
"""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from scipy.stats import binomtest
from sklearn.metrics import classification_report, confusion_matrix
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)

from persodpo.errors import UserError
from persodpo.models.loading import device
from persodpo.models.locations import ADAPTER_FILE, locate
from persodpo.runner import read_json, write_json
from persodpo.score.judges import stance
from persodpo.score.judges.nli import LABELS, NliJudge
from persodpo.score.train_nli.adapter import as_adapter, freeze_biases
from persodpo.score.train_nli.pairs import with_unrelated
from persodpo.score.train_nli.params import ClassifierParams, TrainingParams

BASE_KEY = "nli/params.yaml: base"
BATCH_TOKENS = 2048  # of the measurement


def train_classifier(pairs: pd.DataFrame, params: ClassifierParams, folder: Path) -> None:
    """Train a classifier and write it, as a checkpoint or an adapter that `NliJudge` loads.

    Args:
        pairs: The columns premise, hypothesis, label, at least one row per label.
        params: How.
        folder: Where it is written; replaced as a whole when the training has ended.

    Raises:
        UserError: The base model can't be found, or a label has no pair.
    """
    absent = set(LABELS) - set(pairs["label"])
    if absent:
        raise UserError(f"nli/params.yaml: {params.train_file} has no pair of {absent.pop()}.")
    more = with_unrelated(pairs, params.unrelated, params.seed)
    set_seed(params.seed)
    fit(_base(params), more, params, folder)


def fit(
    model: PreTrainedModel,
    pairs: pd.DataFrame,
    params: TrainingParams,
    folder: Path,
) -> None:
    """Train a classifier on from where it is, and write it as `NliJudge` loads it.

    Args:
        model: A classifier of the classes in LABELS, of the architecture of `params.base`.
        pairs: The columns premise, hypothesis, label.
        params: How.
        folder: Where it is written; replaced as a whole when all has ended.
    """
    if params.lora_r is not None:
        freeze_biases(model, params.lora_r)
    where = locate(params.base, params.revision, BASE_KEY)
    tokenizer = AutoTokenizer.from_pretrained(where, revision=params.revision)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=scratch,
                learning_rate=params.learning_rate,
                num_train_epochs=params.epochs,
                per_device_train_batch_size=params.batch_size,
                warmup_steps=params.warmup,  # below 1: a share of all steps
                train_sampling_strategy="group_by_length",
                seed=params.seed,
                use_cpu=device().type == "cpu",
                save_strategy="no",
                logging_steps=100,
                report_to="none",
            ),
            train_dataset=_tokenised(pairs, tokenizer, params.max_length),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        finished = Path(scratch, "finished")
        if params.lora_r is not None:
            _write_adapter(model.cpu(), params, params.lora_r, finished)
        else:
            model.save_pretrained(finished)
            tokenizer.save_pretrained(finished)
        _replace(folder, finished, Path(scratch, "before"))


def _base(params: TrainingParams) -> PreTrainedModel:
    """The base model with new weights for three classes, drawn from torch's random numbers."""
    return AutoModelForSequenceClassification.from_pretrained(
        locate(params.base, params.revision, BASE_KEY),
        revision=params.revision,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        num_labels=len(LABELS),
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )


def _write_adapter(model: PreTrainedModel, params: TrainingParams, rank: int, folder: Path) -> None:
    """Write what training changed, in half precision, and the configuration with the labels."""
    adapted = as_adapter(model, _base(params), rank)
    config = adapted.peft_config["default"]
    config.base_model_name_or_path, config.revision = params.base, params.revision
    halves = {name: value.half() for name, value in adapted.state_dict().items()}
    adapted.save_pretrained(folder, state_dict=halves)
    (folder / "README.md").unlink()  # peft's empty card
    # peft writes a set as a list in an order that differs from run to run
    settings = read_json(folder / ADAPTER_FILE)
    settings["target_modules"] = sorted(settings["target_modules"])
    write_json(folder / ADAPTER_FILE, settings)
    model.config.save_pretrained(folder)


def _tokenised(pairs: pd.DataFrame, tokenizer: Any, max_length: int) -> Dataset:
    encoded = tokenizer(
        list(pairs["premise"]),
        list(pairs["hypothesis"]),
        truncation="longest_first",
        max_length=max_length,
    )
    lengths = [len(ids) for ids in encoded["input_ids"]]
    labels = [LABELS.index(label) for label in pairs["label"]]
    return Dataset.from_dict({**encoded, "labels": labels, "length": lengths})


def _replace(folder: Path, finished: Path, before: Path) -> None:
    if folder.exists():
        folder.rename(before)
    finished.rename(folder)


def measure(name: str, revision: str | None, pairs: pd.DataFrame) -> dict[str, Any]:
    """Measure a classifier on pairs it wasn't trained on.

    Args:
        name: Where it is (see `persodpo.models.locations`).
        revision: The commit of a Hugging Face id, else None.
        pairs: The columns premise, hypothesis, label.

    Returns:
        `pairs`; `accuracy` with its 95 % interval after Wilson, `accuracy_low` and
        `accuracy_high`; `f1` per label; `confusion`, rows true labels, columns judged
        ones, both in the order of LABELS.
    """
    judge = NliJudge(name, revision, None, BATCH_TOKENS, key="model")
    inputs = list(dict.fromkeys(zip(pairs["premise"], pairs["hypothesis"], strict=True)))
    judged = dict(row for batch in judge(inputs) for row in batch)
    guesses = [
        LABELS[stance(judged[pair]) + 1]
        for pair in zip(pairs["premise"], pairs["hypothesis"], strict=True)
    ]
    right = int((pairs["label"] == guesses).sum())
    interval = binomtest(right, len(pairs)).proportion_ci(method="wilson")
    report = classification_report(pairs["label"], guesses, output_dict=True, zero_division=0.0)
    return {
        "pairs": len(pairs),
        "accuracy": right / len(pairs),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "f1": {label: report[label]["f1-score"] for label in LABELS if label in report},
        "confusion": confusion_matrix(pairs["label"], guesses, labels=list(LABELS)).tolist(),
    }
