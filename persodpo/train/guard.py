"""The displacement guard: it tells when a training makes the chosen answers less likely.

DPO's loss is about the difference of two log-ratios, so it can fall while both answers become
less likely, and what becomes likely instead is in no pair (likelihood displacement: Razin et al.,
arXiv:2410.08847). Each step logs, over its pairs, before its update,

    displaced/share   the share whose chosen answer is less likely than under the reference model
    displaced/fall    by how many nats a token it is less likely, in the mean

and a training counts as displaced as soon as the means of both over the last `guard.steps` steps
are above `guard.share` and `guard.fall`.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from persodpo import processes
from persodpo.config.train import GuardParams
from persodpo.errors import UserError

SHARE, FALL = "displaced/share", "displaced/fall"
# Where the policy is saved as it was before the first step.
START = "start"
# And where the copy of the one that is taken lies.
STOPPED = "stopped"


def displaced_at(history: Sequence[Mapping[Any, Any]], guard: GuardParams) -> int | None:
    """The first step at which a training is displaced; None if it never is.

    Args:
        history: Rows of a training's log, those of steps with `step`, SHARE and FALL.
        guard: The limits.
    """
    steps = [row for row in history if SHARE in row]
    for end in range(guard.steps, len(steps) + 1):
        window = steps[end - guard.steps : end]
        share, fall = (sum(row[name] for row in window) / guard.steps for name in (SHARE, FALL))
        if share > guard.share and fall > guard.fall:
            return int(window[-1]["step"])
    return None


def last_good_step(displaced: int, guard: GuardParams) -> int:
    """The last step whose policy is saved, before the steps that were found displaced; 0 if none.

    The policy is saved after every `guard.steps` steps, and the two newest ones are there.
    """
    return max(0, (displaced // guard.steps - 1) * guard.steps)


def saved_policy(folder: Path, step: int) -> Path:
    """Where a run's policy after a step lies, beside what else a checkpoint has."""
    return folder / (f"{PREFIX_CHECKPOINT_DIR}-{step}" if step else START)


def copy_policy(folder: Path, step: int) -> None:
    """Copy a policy to where no later checkpoint takes its place; once.

    A run goes on for a step after it shall stop, and saves once more at its end, so the trainer may
    delete the checkpoint that is wanted.
    """
    target = policy_copy(folder)
    if not target.exists():
        unfinished = target.with_name(f".{STOPPED}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(saved_policy(folder, step), unfinished)
        unfinished.rename(target)


def policy_copy(folder: Path) -> Path:
    """Where the copy of the policy lies that a stopped run takes."""
    return folder / STOPPED


def refuse_sharded(guard: GuardParams) -> None:
    """Refuse to stop a training whose checkpoints have the weights in pieces.

    Raises:
        UserError: It runs under FSDP or DeepSpeed.
    """
    sharded = [os.environ.get(f"ACCELERATE_USE_{kind}") == "true" for kind in ("FSDP", "DEEPSPEED")]
    if guard.action == "stop" and any(sharded):
        raise UserError(
            "params.yaml: train.guard.action is stop, which takes an earlier checkpoint, and under "
            "FSDP or DeepSpeed none is whole; set it to warn."
        )


class DisplacementGuard(TrainerCallback):  # type: ignore[misc]  # skipped by mypy, see pyproject
    """Warns of a displaced training, and stops it if it shall."""

    def __init__(self, guard: GuardParams) -> None:
        self.guard = guard
        self.is_displaced = False

    def _look(self, args: Any, state: Any, control: Any) -> None:
        if self.guard.action == "none" or self.is_displaced:
            return
        step = displaced_at(state.log_history, self.guard)
        if step is None:
            return
        self.is_displaced = True
        if self.guard.action == "stop":
            control.should_training_stop = True
            kept = last_good_step(step, self.guard)
            if processes.is_main():
                copy_policy(Path(args.output_dir), kept)
            end = f"it stops, and the policy after step {kept} is taken"
        else:
            end = "set train.guard.action to stop to take an earlier policy"
        if processes.is_main():
            sys.stderr.write(
                f"\nThe chosen answers have become less likely by step {step} (of more than "
                f"{self.guard.share:.0%} of the pairs, by more than {self.guard.fall:g} nats a "
                f"token); {end}, or lower the learning rate.\n"
            )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """A run that was killed behind the step that displaced it."""
        self._look(args, state, control)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each step."""
        self._look(args, state, control)
