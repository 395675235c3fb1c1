"""What a training leaves beside its policy: a log of its steps, and headline numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from persodpo.config.train import GuardParams
from persodpo.train.guard import FALL, SHARE, displaced_at, last_good_step
from persodpo.train.rows import TokenisedRow
from persodpo.train.trainer import ScoreWeightedDPOTrainer

# Headline numbers that are means over the last steps: their columns in the log.
MEANS = {
    "loss": "loss/total",
    "reward_margin": "rewards/margins",
    "reward_accuracy": "rewards/accuracies",
    "displaced_share": SHARE,
    "displaced_fall": FALL,
}


def training_log(history: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What the trainer has logged so far, one row per step.

    Args:
        history: The trainer's entries; losses and held-out losses of one step are apart.
    """
    entries = pd.DataFrame(history)
    of_the_end = entries.filter(regex=r"^train_|^total_|^eval_(runtime|.*_per_second)$")
    steps = entries.drop(columns=of_the_end).groupby("step", as_index=False).first()
    return steps.dropna(subset="loss")


def summary(
    trainer: ScoreWeightedDPOTrainer, rows: Sequence[TokenisedRow], guard: GuardParams
) -> tuple[pd.DataFrame, dict[str, float | int]]:
    """The log and the headline numbers of a training that has ended.

    Args:
        trainer: The trainer.
        rows: All rows, the held-out ones, too.
        guard: What the displacement guard was told.

    Returns:
        The log, one row per step, and `pairs` (of a supervised training `answers`), `prompts`,
        `steps`, `tokens`, the means of MEANS over the last fifth of the steps behind the policy,
        `held_out_loss` if pairs were held out, `train_seconds`, and, if the guard spoke,
        `displaced_step`, the step at which it did, and, if it stopped the training, `kept_step`,
        the one whose policy was taken.
    """
    history = trainer.state.log_history
    log = training_log(history)
    seconds = [entry["train_runtime"] for entry in history if "train_runtime" in entry][-1]
    kept, guarded = None, {}
    if displaced := _displaced_at(log, guard):
        guarded["displaced_step"] = displaced
        if guard.action == "stop":
            # one that was killed right there has gone a step further
            log = log[log["step"] <= displaced]
            kept = guarded["kept_step"] = last_good_step(displaced, guard)
    evaluated = log["eval_loss"].dropna() if "eval_loss" in log else pd.Series(dtype=float)
    of_policy = evaluated.min() if trainer.args.load_best_model_at_end else evaluated.tail(1).min()
    last = _last_steps(log, kept)
    return log, {
        "pairs" if trainer.is_preference else "answers": sum(len(row.pairs) for row in rows),
        "prompts": len(rows),
        "steps": int(log["step"].iloc[-1]),
        "tokens": int(log["num_tokens"].iloc[-1]),
        **{name: float(last[column].mean()) for name, column in MEANS.items() if column in log},
        **({"held_out_loss": float(of_policy)} if len(evaluated) else {}),
        "train_seconds": float(seconds),
        **guarded,
    }


def _displaced_at(log: pd.DataFrame, guard: GuardParams) -> int | None:
    """The step at which the guard speaks; None if it never does."""
    if guard.action == "none" or SHARE not in log:
        return None
    return displaced_at(log[["step", SHARE, FALL]].to_dict("records"), guard)


def _last_steps(log: pd.DataFrame, kept: int | None) -> pd.DataFrame:
    """The last fifth of the steps behind the policy; of the start what the first step saw."""
    steps = log if kept is None else log[log["step"] <= max(kept, 1)]
    return steps.tail(max(1, len(steps) // 5))
