"""Checkpoints of runs that haven't ended: a killed training goes on where it was.

They lie under the cache folder, outside the DVC graph, because DVC removes a stage's
outputs before it runs. A run's folder is named by everything that its result depends
on, so no other run goes on from there; it is removed when the run ends.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

from filelock import FileLock
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from persodpo import processes
from persodpo.errors import UserError

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")


def package_versions() -> dict[str, str]:
    """The installed versions of the packages that compute."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def run_folder(cache: Path, run: Mapping[str, Any]) -> Path:
    """The folder of a run's checkpoints.

    Args:
        cache: The cache folder.
        run: What the run's result depends on besides code and packages, as JSON has it.
    """
    package = Path(__file__).parent.parent
    rooms = [sorted((package / room).glob("*.py")) for room in ("train", "models")]
    files = [*chain(*rooms), package / "processes.py"]
    code = [file.read_text(encoding="utf-8") for file in files]
    text = json.dumps([dict(run), package_versions(), code], sort_keys=True)
    return cache / "training" / hashlib.sha256(text.encode()).hexdigest()[:24]


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint below a folder, or None.

    The trainer writes its state last, so a checkpoint without a sound one was cut short.
    """
    found = [path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if _is_whole(path)]
    return max(found, key=lambda path: int(path.name.split("-")[-1]), default=None)


@contextmanager
def locked_run(folder: Path) -> Iterator[Path | None]:
    """Lock other runs out of a run's folder, and find where to go on from.

    Queued experiments may train the same method in the same way at once. The second one
    waits, and then trains anew.

    Args:
        folder: What `run_folder` gave.

    Yields:
        The checkpoint to go on from, the same one in every process; None if there is none.

    Raises:
        UserError: Another machine's process doesn't see the checkpoint.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{folder}.lock") if processes.is_main() else nullcontext()
    with lock:
        checkpoint = processes.from_main(lambda: last_checkpoint(folder))
        if checkpoint and not all(processes.gather([_is_whole(checkpoint)])):
            raise UserError(
                f"{checkpoint}: not every process of this training sees it; let .cache/training "
                "be the same folder on all machines, or delete it."
            )
        yield checkpoint


def _is_whole(checkpoint: Path) -> bool:
    try:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    except (OSError, ValueError):
        return False
    return checkpoint.name == f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
