"""Runs of the workflow: the workspace's, and those that DVC keeps as experiments."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo

from persodpo.config.reading import PARAMS_FILE
from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError
from persodpo.report import Results, compared_pairs, read_results
from persodpo.runner import ARTIFACTS
from persodpo.workflow import Params, load_params

WORKSPACE = "workspace"
LOCK_FILE = Path("dvc.lock")
# What the report reads of a run, beside what each candidate and method has.
FILES = ["prompts/valid.jsonl", "pairs/metrics.json", "pairs/scale.json", "audit/findings.csv"]


class Run(NamedTuple):
    """A finished run of the workflow.

    Attributes:
        name: The experiment's, or `workspace`.
        seed: `train.seed`.
        settings: All other values of params.yaml, by their keys in full.
        params: The same, checked.
        results: All candidates' answers with their scores.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    params: Params
    results: Results

    def compared(self) -> list[tuple[str, str]]:
        """Candidates and the methods that are compared with them."""
        return compared_pairs(self.results.candidates(), self.params.train.methods)


def read_runs(names: Sequence[str]) -> tuple[list[Run], list[str]]:
    """Read the workspace's run and the last commit's experiments.

    Args:
        names: Of the experiments, or `workspace`; none of them reads all.

    Returns:
        The runs, and a sentence about each that was left out because it hasn't run to its end, or
        because its files aren't on this machine.

    Raises:
        UserError: A name isn't known, or a run that is named can't be read.
    """
    known = {WORKSPACE: None, **_experiments()}
    for name in names:
        if name not in known:
            raise UserError(
                f"{name}: there is no such experiment of the last commit; there are "
                f"{', '.join(known)}."
            )
    runs, left_out = [], []
    for name in names or known:
        try:
            runs.append(_read(name, known[name]))
        except UserError as error:
            if names:
                raise
            left_out.append(f"{name} is left out: {error}")
    return runs, left_out


def _experiments() -> dict[str, str]:
    """The revisions of the last commit's experiments, by their names in order."""
    try:
        with Repo() as repo:
            found = repo.experiments.ls()
    except DvcException as error:
        raise UserError(f"DVC can't list the experiments here ({error}).") from error
    return dict(sorted((name, rev) for of_commit in found.values() for name, rev in of_commit))


def _read(name: str, revision: str | None) -> Run:
    if revision is None:
        return _run(name, Path())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _fetch(name, revision, [PARAMS_FILE, LOCK_FILE], root)
        params = load_params(root / PARAMS_FILE)
        _fetch(name, revision, [ARTIFACTS / file for file in _files(params)], root)
        return _run(name, root)


def _files(params: Params) -> list[str]:
    evaluations = [f"evaluations/{name}.jsonl" for name in params.candidates()]
    return [*FILES, *evaluations, *(f"training/{name}.json" for name in params.train.methods)]


def _fetch(name: str, revision: str, files: Sequence[Path], root: Path) -> None:
    """Copy files of an experiment out of git and DVC's cache, or its remote."""
    system = DVCFileSystem(rev=revision)
    for file in files:
        target = root / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            system.get_file(file.as_posix(), str(target))
        except (OSError, DvcException) as error:
            raise UserError(
                f"{file} of the experiment {name} isn't on this machine; fetch it (dvc exp pull), "
                "or remove the experiment."
            ) from error


def _run(name: str, root: Path) -> Run:
    params = load_params(root / PARAMS_FILE)
    values = load_yaml(root / PARAMS_FILE)
    _refuse_unfinished(name, values, root / LOCK_FILE)
    settings = dict(_flat(values))
    return Run(
        name,
        settings.pop("train.seed"),
        settings,
        params,
        read_results(params.candidates(), params, root / ARTIFACTS),
    )


def _refuse_unfinished(name: str, values: dict[str, Any], lock: Path) -> None:
    """Refuse a run whose report is another one's, since it ended with an earlier stage."""
    stages = load_yaml(lock).get("stages") or {} if lock.is_file() else {}
    locked = stages.get("report", {}).get("params", {}).get(PARAMS_FILE.name)
    if locked is None or any(values.get(key) != value for key, value in locked.items()):
        raise UserError(
            f"{name} hasn't run to its end with these settings; run it again (dvc repro, or dvc "
            "exp run without a stage)."
        )


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every single value with its key in full; a list is one."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def by_settings(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in the seed alone, together; of two with the same seed the first.

    Runs on other validation prompts, as after a change of the data, are others.
    """
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        prompts = [prompt.model_dump() for prompt in run.results.prompts]
        key = json.dumps([run.settings, prompts], sort_keys=True)
        groups.setdefault(key, {}).setdefault(run.seed, run)
    return [sorted(group.values(), key=lambda run: run.seed) for group in groups.values()]
