"""What all stages share: where artifacts and caches lie, and how a stage is run."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from persodpo import processes
from persodpo.errors import UserError
from persodpo.records import write_text

T = TypeVar("T")

# Relative to the folder of dvc.yaml, in which DVC runs every stage; never derived from __file__,
# which in a temporary experiment's copy may be another workspace's.
ARTIFACTS = Path("artifacts")
RESULTS = Path("results")


def cache_folder() -> Path:
    """The folder for what can be made again, or was paid for, outside the DVC graph.

    DVC sets DVC_ROOT for every stage, to the main workspace even in `--temp` and
    queued experiments, which therefore share one cache.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".cache"


def run_stage(stage: str | None, main: Callable[..., None], *arguments: str) -> None:
    """Check the parameters and run a stage's main function with its command-line arguments.

    Args:
        stage: The stage's script; None where params.yaml isn't what it reads.
        main: Called with one text per name in `arguments`.
        arguments: Names of the positional arguments.

    A mistake in the user's input ends the stage with one sentence and exit status 1. Under
    several processes each that finds it says so.
    """
    description = sys.modules[main.__module__].__doc__
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in arguments:
        parser.add_argument(name)
    values = vars(parser.parse_args())
    try:
        if stage is not None:
            # by its name, so that it is no dependency of the stage (see there)
            importlib.import_module("persodpo.workflow.checks").check_workflow(stage)
        main(**values)
        processes.finish()
    except UserError as error:
        sys.exit(f"error: {error}")


def pick(section: Mapping[str, T], key: str, name: str) -> T:
    """The value of a key that was given on the command line.

    Raises:
        UserError: The section of params.yaml has no such key.
    """
    if key not in section:
        raise UserError(
            f"params.yaml: {name} has no key {key!r}; the keys there are {', '.join(section)}."
        )
    return section[key]


def write_json(path: Path, value: Any) -> None:
    """Write metrics as JSON, atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read metrics.

    Raises:
        UserError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: can't be read ({error}); run the stage that writes it."
        ) from error
