"""One training run: from a pair set and a method's settings to a LoRA adapter."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig

from persodpo.errors import UserError
from persodpo.model_params import TransformersModel
from persodpo.models import device, fast_dtype, load_causal_lm, load_tokenizer
from persodpo.pairing import Pair, pair_weights
from persodpo.params import MethodParams, TrainParams
from persodpo.records import write_text
from persodpo.stage import cache_folder
from persodpo.training.collator import SharedPromptCollator
from persodpo.training.groups import group_pairs, tokenize_group
from persodpo.training.reference import reference_logps
from persodpo.training.trainer import ScoreWeightedDPOTrainer


@dataclass(frozen=True)
class TrainingRun:
    """What a training leaves beside the adapter.

    Attributes:
        log: One row per logged step, with the columns of TRL's log.
        metrics: Headline numbers.
    """

    log: pd.DataFrame
    metrics: dict[str, float | int]


def train_policy(
    pairs: Sequence[Pair],
    method: MethodParams,
    params: TrainParams,
    base: TransformersModel,
    adapter_folder: Path,
) -> TrainingRun:
    """Fine-tune the base model on a pair set and save the adapter.

    Args:
        pairs: The pair set of the method.
        method: The method's loss.
        params: The settings that all methods share.
        base: The model that is trained.
        adapter_folder: Where the adapter is written, in PEFT's format as safetensors.

    Returns:
        The log and the headline numbers.

    Raises:
        UserError: The pair set is empty, a prompt is too long, or the base model can't
            be found or has no chat template.
    """
    if not pairs:
        raise UserError(
            f"The pair set {method.pairs} has no pairs to train on; run the stage pair."
        )
    key = f"params.yaml: models.{params.model}.model"
    tokenizer = load_tokenizer(base.model, base.revision, key)
    collator = SharedPromptCollator(tokenizer.pad_token_id)
    rows = [
        row | tokenize_group(row, tokenizer, params.max_length)
        for row in _weighted_rows(pairs, method, params)
    ]
    weights = load_causal_lm(base.model, base.revision, key, params.dtype)
    references = reference_logps(weights, rows, collator, cache_folder() / "reference")
    rows = [row | {"reference": values} for row, values in zip(rows, references, strict=True)]
    adapter_folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache_folder()) as scratch:
        trainer = ScoreWeightedDPOTrainer(
            sft_weight=method.sft_weight,
            model=weights,
            args=_config(params, scratch),
            train_dataset=Dataset.from_list(rows),
            data_collator=collator,
            processing_class=tokenizer,
            peft_config=LoraConfig(
                task_type="CAUSAL_LM",
                r=params.lora_r,
                lora_alpha=params.lora_alpha,
                target_modules="all-linear",
            ),
        )
        trainer.train()
        finished = Path(scratch, "adapter")
        trainer.model.save_pretrained(finished)
        _make_reproducible(finished, base)
        shutil.rmtree(adapter_folder, ignore_errors=True)
        shutil.move(finished, adapter_folder)
    return _summary(trainer, n_pairs=len(pairs), n_prompts=len(rows))


def _make_reproducible(adapter: Path, base: TransformersModel) -> None:
    """Take out of a saved adapter what differs between two equal runs."""
    # an empty form, not a model card
    (adapter / "README.md").unlink(missing_ok=True)
    file = adapter / "adapter_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.model  # not the folder of this machine
    config["revision"] = base.revision
    config["target_modules"] = sorted(config["target_modules"])  # PEFT has a set
    write_text(file, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _weighted_rows(
    pairs: Sequence[Pair], method: MethodParams, params: TrainParams
) -> list[dict[str, Any]]:
    """Group the pairs by prompt and give each its weight; normalised over the whole set."""
    rows = group_pairs(pairs)
    differences = [difference for row in rows for difference in row["difference"]]
    weights = [1.0] * len(differences)
    if method.weight == "score":
        weights = pair_weights(
            differences, params.weight_temperature, params.weight_normalisation
        ).tolist()
    one_by_one = iter(weights)
    return [{**row, "weight": [next(one_by_one) for _ in row["difference"]]} for row in rows]


def _config(params: TrainParams, folder: str) -> DPOConfig:
    return DPOConfig(
        output_dir=folder,
        learning_rate=params.learning_rate,
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        gradient_accumulation_steps=params.gradient_accumulation,
        warmup_steps=params.warmup_steps,
        max_grad_norm=params.max_grad_norm,
        beta=params.beta,
        seed=params.seed,
        bf16=fast_dtype(params.dtype) is torch.bfloat16,
        gradient_checkpointing=False,
        dataloader_pin_memory=device().type != "cpu",
        logging_steps=1,
        logging_first_step=True,
        save_strategy="no",
        report_to="none",
    )


def _summary(trainer: ScoreWeightedDPOTrainer, n_pairs: int, n_prompts: int) -> TrainingRun:
    history = pd.DataFrame(trainer.state.log_history)
    log = history[history["loss"].notna()]
    log = log.drop(columns=[c for c in log if str(c).startswith(("train_", "total_"))])
    last = log.tail(max(1, len(log) // 5))
    return TrainingRun(
        log=log.set_index("step").reset_index(),
        metrics={
            "pairs": n_pairs,
            "prompts": n_prompts,
            "steps": int(trainer.state.global_step),
            "loss": float(last["loss/total"].mean()),
            "reward_margin": float(last["rewards/margins"].mean()),
            "reward_accuracy": float(last["rewards/accuracies"].mean()),
            "train_seconds": float(history["train_runtime"].dropna().iloc[-1]),
        },
    )
