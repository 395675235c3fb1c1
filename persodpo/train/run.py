"""One training run: from a training set and a method's settings to a policy.

A policy is a LoRA adapter, or a whole model if all weights are trained. A method that starts from
another one trains that one's adapter (or weights) further, and that one's policy is its reference
model; so what comes out is again one adapter on the base, or one whole model.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock
from peft import LoraConfig
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
)
from transformers.pytorch_utils import Conv1D
from trl import DPOConfig

from persodpo import processes
from persodpo.config.models import TransformersModel
from persodpo.config.train import BASE, LoraParams, PairMethod, SftMethod, TrainParams
from persodpo.errors import UserError
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.loading import device, fast_dtype, load_causal_lm, load_tokenizer
from persodpo.models.locations import folder_hash, identity
from persodpo.records import Demonstration, Pair, Prompt
from persodpo.runner import cache_folder
from persodpo.train.batches import plan_passes, split, steps_per_epoch
from persodpo.train.checkpoints import locked_run, package_versions, run_folder
from persodpo.train.collator import PromptCollator
from persodpo.train.guard import DisplacementGuard, policy_copy, refuse_sharded, saved_policy
from persodpo.train.layout import choose_layout
from persodpo.train.policy import (
    adapted,
    make_reproducible,
    refuse_other_start,
    set_adapter_weights,
)
from persodpo.train.progress import LiveLog, Progress
from persodpo.train.reference import with_reference_logps
from persodpo.train.rows import TokenisedRow, TrainingRow, training_rows
from persodpo.train.summary import summary
from persodpo.train.trainer import PLANNED, ScoreWeightedDPOTrainer
from persodpo.train.weighting import weigh


@dataclass(frozen=True)
class TrainingRun:
    """What a training leaves beside the policy.

    Attributes:
        log: One row per step, with the columns of TRL's log and this project's.
        metrics: Headline numbers; `train_seconds` are those since the last start.
        checkpoints: The folder that a killed run goes on from.
    """

    log: pd.DataFrame
    metrics: dict[str, float | int]
    checkpoints: Path

    def discard_checkpoints(self) -> None:
        """Forget how to go on, once all that the run leaves is written."""
        if processes.is_main():
            with FileLock(f"{self.checkpoints}.lock"):
                shutil.rmtree(self.checkpoints, ignore_errors=True)


def train_policy(
    data: Sequence[Pair | Demonstration],
    prompts: Sequence[Prompt],
    method: SftMethod | PairMethod,
    params: TrainParams,
    base: TransformersModel,
    max_words: int,
    date: str,
    policy: Path,
    start: Path | None = None,
    log_file: Path | None = None,
) -> TrainingRun:
    """Fine-tune the base model, or another method's policy, and save the policy.

    A run that was killed goes on from its last checkpoint. Under `accelerate launch` the
    processes share each step's prompts.

    Args:
        data: The training set of the method.
        prompts: The prompts that it belongs to.
        method: The method's loss.
        params: The settings that all methods share.
        base: The model that is trained.
        max_words: The most words an answer may have, as the prompt has it.
        date: The day that chat templates take for today.
        policy: The folder that gets an adapter in PEFT's format, or a whole model with
            its tokenizer, as safetensors.
        start: The folder of the policy that is trained further, and is the reference model; None
            for the base model.
        log_file: Gets the log as CSV while it grows, so that the training can be watched.

    Returns:
        The log and the headline numbers.

    Raises:
        UserError: The training set is empty, a prompt is too long, the base model can't be found,
            has no chat template or can't be quantised here, or the start isn't what these settings
            train.
    """
    assert (start is None) == (method.start == BASE)
    if not data:
        raise UserError(
            f"artifacts/pairs/{method.data}.jsonl has nothing to train on; run the stage that "
            f"writes it (dvc repro {'sample' if method.data == 'golden' else 'pair'})."
        )
    _refuse_several_devices()
    refuse_sharded(params.guard)
    if start is not None:
        refuse_other_start(start, method.start, params.lora)
    tokenizer = load_tokenizer(base.model, base.revision, _key(params))
    template = ChatTemplate(tokenizer, date, base.chat_template_kwargs, _key(params))
    rows = training_rows(data, prompts, params, base, template, max_words)
    if isinstance(method, PairMethod):
        rows = weigh(rows, method)
    folder = run_folder(
        cache_folder(),
        {
            "rows": [asdict(row) for row in rows],
            "method": method.model_dump(),
            "params": params.model_dump(exclude={"methods", "checkpoint_steps"}),
            "base": identity(base.model, base.revision, _key(params)),
            "start": folder_hash(start) if start else None,
            "machine": [device().type, str(fast_dtype(params.dtype)), processes.count()],
            "sharded": [os.environ.get(f"ACCELERATE_USE_{kind}") for kind in ("FSDP", "DEEPSPEED")],
        },
    )
    with locked_run(folder) as checkpoint:
        trainer = _trainer(rows, method, params, base, tokenizer, folder, start)
        if log_file is not None:
            trainer.add_callback(LiveLog(log_file))
        if _may_stop(method, params):
            trainer.save_model(str(saved_policy(folder, 0)))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        log, metrics = summary(trainer, rows, params.guard)
        # beside the policy, so that it takes its place in one step
        finished = policy.with_name(f".{policy.name}.new")
        if processes.is_main():  # what a killed run left there
            shutil.rmtree(finished, ignore_errors=True)
        processes.gather([])
        if "kept_step" not in metrics:
            trainer.save_model(str(finished))
        processes.gather([])  # all have saved their part
        if processes.is_main():
            if "kept_step" in metrics:
                shutil.copytree(policy_copy(folder), finished)
            make_reproducible(finished, base)
            shutil.rmtree(policy, ignore_errors=True)
            finished.rename(policy)
    return TrainingRun(log, metrics, checkpoints=folder)


def _refuse_several_devices() -> None:
    if processes.count() == 1 and torch.accelerator.device_count() > 1:
        raise UserError(
            f"params.yaml: launch starts one process on {torch.accelerator.device_count()} "
            "accelerators; set it to accelerate launch, or show the training one of them "
            "(CUDA_VISIBLE_DEVICES=0)."
        )


def _key(params: TrainParams) -> str:
    return f"params.yaml: models.{params.model}.model"


def _trainer(
    rows: Sequence[TokenisedRow],
    method: SftMethod | PairMethod,
    params: TrainParams,
    base: TransformersModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    start: Path | None,
) -> ScoreWeightedDPOTrainer:
    """The trainer, ready to run: weights loaded, reference log-probabilities looked up."""
    # all weights are trained in float32, since bfloat16 would round small steps away
    stored = fast_dtype(params.dtype) if params.lora else torch.float32
    nf4 = params.lora is not None and params.lora.quantisation == "nf4"
    if start is None or params.lora:
        weights = load_causal_lm(base.model, base.revision, _key(params), stored, nf4)
    else:
        weights = load_causal_lm(str(start), None, str(start), stored)
    if params.lora:
        _refuse_targets(params.lora, weights)
    if isinstance(method, PairMethod):
        model = {
            **identity(base.model, base.revision, _key(params)),
            "start": folder_hash(start) if start else None,
            "dtype": [str(stored), str(fast_dtype(params.dtype)), nf4],
        }
        with adapted(weights, start if params.lora else None):
            complete, collator = _with_reference(
                rows, weights, model, params, tokenizer.pad_token_id
            )
    else:
        # one answer a prompt, so nothing would be shared; and nothing is compared with a reference
        collator = PromptCollator(tokenizer.pad_token_id, "separate")
        complete = [row.with_reference([0.0] * len(row.answer_ids)) for row in rows]
    train, held_out = split(complete, params.held_out, params.seed)
    batch = (params.batch_unit, params.batch_size)
    passes = params.passes * processes.count()
    trainer = ScoreWeightedDPOTrainer(
        train=train,
        held_out=held_out,
        collator=collator,
        plan=plan_passes(train, *batch, passes, params.epochs, params.seed),
        steps=steps_per_epoch(train, *batch),
        method=method,
        model=weights,
        args=_config(method, params, folder),
        processing_class=tokenizer,
        peft_config=_lora(params.lora) if params.lora else None,
        callbacks=[
            DisplacementGuard(params.guard),
            *([EarlyStoppingCallback(params.early_stopping)] if params.early_stopping else []),
        ],
    )
    if start is not None and params.lora:
        # only now, since TRL has rounded the adapter of a quantised base
        set_adapter_weights(trainer.model, start)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Progress)
    return trainer


def _with_reference(
    rows: Sequence[TokenisedRow],
    weights: PreTrainedModel,
    model: dict[str, Any],
    params: TrainParams,
    pad_token_id: int,
) -> tuple[list[TrainingRow], PromptCollator]:
    """The rows with the reference model's log-probabilities, and what lays them out."""
    dtype = fast_dtype(params.dtype)
    # as the trainer computes, so that the policy starts as its reference
    with torch.autocast(weights.device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
        layout = choose_layout(params.layout, weights, rows, pad_token_id, dtype)
        collator = PromptCollator(pad_token_id, layout)
        machine = {"device": weights.device.type, "versions": package_versions()}
        key = model | {"layout": layout} | machine
        complete = with_reference_logps(weights, key, rows, collator, cache_folder() / "reference")
    return complete, collator


def _refuse_targets(lora: LoraParams, weights: torch.nn.Module) -> None:
    """Before the reference's values are computed; PEFT and TRL would say so behind them."""
    if lora.targets == "all-linear":
        return
    # no embeddings: where the output layer shares their weights, a merged adapter changes it, too
    layers = [
        name
        for name, module in weights.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and name.split(".")[-1] != "lm_head"
    ]
    for target in lora.targets:
        if not any(name == target or name.endswith(f".{target}") for name in layers):
            names = sorted({name.split(".")[-1] for name in layers})
            raise UserError(
                f"params.yaml: train.lora.targets has {target!r}, which is no layer of the model "
                f"that can have an adapter; its layers are {', '.join(names)}."
            )


def _lora(params: LoraParams) -> LoraConfig:
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=params.r,
        lora_alpha=params.alpha,
        target_modules=params.targets,
    )


def _config(method: SftMethod | PairMethod, params: TrainParams, folder: Path) -> DPOConfig:
    stops_early = params.early_stopping is not None
    half = fast_dtype(params.dtype) is torch.bfloat16
    # accelerate launch sets it from a configuration of its own, which would win over bf16 below
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if half else "no"
    return DPOConfig(
        **PLANNED,
        output_dir=str(folder),
        learning_rate=method.learning_rate,
        gradient_accumulation_steps=params.passes,
        lr_scheduler_type=params.scheduler,
        warmup_steps=params.warmup_steps,
        max_grad_norm=params.max_grad_norm,
        beta=params.beta,
        seed=params.seed,
        bf16=half,
        use_cpu=device().type == "cpu",
        activation_checkpointing=params.gradient_checkpointing,
        # says that batches bring the reference's log-probabilities, so no second model is loaded;
        # with an adapter there is none anyway
        precompute_ref_log_probs=params.lora is None,
        dataloader_pin_memory=device().type != "cpu",
        logging_steps=1,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if params.held_out else "no",
        eval_steps=params.eval_steps,
        save_strategy="steps",
        save_steps=_save_steps(method, params),
        save_total_limit=2,
        restore_callback_states_from_checkpoint=True,  # how often the loss hasn't fallen
        load_best_model_at_end=stops_early,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        report_to="none",
    )


def _may_stop(method: SftMethod | PairMethod, params: TrainParams) -> bool:
    """Whether the guard may take an earlier policy; supervised training displaces nothing."""
    return isinstance(method, PairMethod) and params.guard.action == "stop"


def _save_steps(method: SftMethod | PairMethod, params: TrainParams) -> int:
    """After how many steps a checkpoint is made, of which somebody may want an earlier one."""
    if params.early_stopping is not None:
        return params.eval_steps
    return params.guard.steps if _may_stop(method, params) else params.checkpoint_steps
