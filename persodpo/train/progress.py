"""What a training shows while it runs: its progress line, and its log as a file."""

import time
from pathlib import Path
from typing import Any

from transformers import ProgressCallback, TrainerCallback

from persodpo.records import write_text
from persodpo.train.summary import training_log


class Progress(ProgressCallback):  # type: ignore[misc]  # skipped by mypy, see pyproject
    """The progress line with the loss in it; the twenty numbers of each step are in the log."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """After each step."""
        if self.training_bar is not None and "loss/total" in (logs or {}):
            self.training_bar.set_postfix(loss=f"{logs['loss/total']:.3f}")


class LiveLog(TrainerCallback):  # type: ignore[misc]  # skipped by mypy, see pyproject
    """Writes the log as it grows: a run that goes on can be plotted, a killed one keeps it.

    The file is written whole, which takes the longer the longer it is; so it takes at most a
    twentieth of the time.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.next_time = 0.0

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """After each step."""
        if time.monotonic() >= self.next_time:
            self._write(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The whole log, whenever the last time was."""
        self._write(state)

    def _write(self, state: Any) -> None:
        if state.is_world_process_zero:
            begin = time.monotonic()
            write_text(self.file, training_log(state.log_history).to_csv(index=False))
            self.next_time = time.monotonic() + 20 * (time.monotonic() - begin)
