"""Runs of the workflow: the workspace's, experiments, and those of other folders.

Only files that git keeps are read, so a run counts wherever its commit is, without DVC's cache.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo

from persodpo.config.reading import PARAMS_FILE
from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError
from persodpo.report import (
    CANDIDATES_FILE,
    SCORES_FILE,
    Measure,
    PromptScores,
    compared_pairs,
    declared_measures,
    read_scores,
)
from persodpo.runner import ARTIFACTS, RESULTS
from persodpo.workflow import Params, load_params

WORKSPACE = "workspace"
LOCK_FILE = Path("dvc.lock")
FILES = [PARAMS_FILE, LOCK_FILE, RESULTS / SCORES_FILE, RESULTS / CANDIDATES_FILE]
# Measures of collapse that are averaged, too: their titles.
COLLAPSE = {"repeated": "Repeated ↓", "distinct_2": "Distinct-2 ↑"}
PROMPTS = ARTIFACTS / "prompts/valid.jsonl"
# Sections and keys of params.yaml that change no value but by rounding.
WITHOUT_EFFECT = ("launch", "report", "score.batch_tokens", "train.checkpoint_steps")


class Run(NamedTuple):
    """A finished run of the workflow.

    Attributes:
        name: The experiment's, a folder's, or `workspace`.
        seed: `train.seed`.
        settings: All other values of params.yaml that have an effect, by their keys in full.
        params: The same, checked.
        prompts: The hash of the validation prompts.
        scores: All values of all candidates.
        numbers: What `results/candidates.csv` has: the keys of `COLLAPSE` are columns, candidates
            rows.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    params: Params
    prompts: str
    scores: PromptScores
    numbers: pd.DataFrame

    def compared(self) -> list[tuple[str, str]]:
        """Candidates and the methods that are compared with them."""
        return compared_pairs(self.scores.candidates(), self.params.train.methods)

    def measures(self) -> dict[str, Measure]:
        """What the candidates are compared by."""
        return declared_measures(self.params)


def read_runs(names: Sequence[str]) -> tuple[list[Run], list[str]]:
    """Read the workspace's run, the last commit's experiments, and runs of other folders.

    Args:
        names: Of the experiments, or `workspace`, or folders that have the files `FILES`; none of
            them reads the workspace and all experiments.

    Returns:
        The runs, and a sentence about each that was left out because it hasn't run to its end.

    Raises:
        UserError: A name isn't known, or a run that is named can't be read.
    """
    known = {WORKSPACE: None, **_experiments()}
    for name in names:
        if name not in known and not (Path(name) / PARAMS_FILE).is_file():
            raise UserError(
                f"{name}: there is no such experiment of the last commit, and no folder with a "
                f"{PARAMS_FILE}; there are {', '.join(known)}."
            )
    runs, left_out = [], []
    for name in names or known:
        try:
            runs.append(_read(name, known[name]) if name in known else _run(name, Path(name)))
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
        _fetch(name, revision, root)
        try:
            return _run(name, root)
        except UserError as error:
            # the user knows the experiment, and not where its files were copied to
            raise UserError(str(error).replace(f"{root}/", f"{name}: ")) from error


def _fetch(name: str, revision: str, root: Path) -> None:
    """Copy files of an experiment out of git."""
    system = DVCFileSystem(rev=revision)
    for file in FILES:
        target = root / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            system.get_file(file.as_posix(), str(target))
        except (OSError, DvcException) as error:
            raise UserError(
                f"{name} has no {file}, so an earlier version of this project made it; make it "
                "again, or remove the experiment."
            ) from error


def _run(name: str, root: Path) -> Run:
    params = load_params(root / PARAMS_FILE)
    values = load_yaml(root / PARAMS_FILE)
    stages = _finished_stages(name, values, root / LOCK_FILE)
    # as checked, so that 2 and 2.0 are the same
    whole = params.model_dump(mode="json")
    settings = {key: value for key, value in _flat(whole) if not _is_without_effect(key)}
    candidates = params.candidates()
    run = Run(
        name,
        settings.pop("train.seed"),
        settings,
        params,
        _hash_of_prompts(name, stages),
        read_scores(root / RESULTS / SCORES_FILE, candidates, declared_measures(params)),
        _read_numbers(root / RESULTS / CANDIDATES_FILE, candidates),
    )
    _refuse_other_results(name, root, stages)
    return run


def _is_without_effect(key: str) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in WITHOUT_EFFECT)


def _read_numbers(file: Path, candidates: Sequence[str]) -> pd.DataFrame:
    try:
        # a candidate may be called NA
        table = pd.read_csv(
            file,
            dtype={"candidate": str, **dict.fromkeys(COLLAPSE, float)},
            keep_default_na=False,
            na_values={key: [""] for key in COLLAPSE},
        ).set_index("candidate")
        return table.loc[list(candidates), list(COLLAPSE)]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{file}: can't be read ({error}); run the stage that writes it again (dvc repro "
            "--force --single-item report)."
        ) from error


def _refuse_other_results(name: str, root: Path, stages: dict[str, Any]) -> None:
    """Refuse tables that aren't those of the lock, as after a checkout of the lock alone."""
    locked = {out["path"]: out.get("md5") for out in stages["report"].get("outs") or ()}
    for file in (RESULTS / SCORES_FILE, RESULTS / CANDIDATES_FILE):
        content = (root / file).read_bytes()
        if locked.get(file.as_posix()) != hashlib.md5(content, usedforsecurity=False).hexdigest():
            raise UserError(
                f"{name}: {file} isn't the one that its {LOCK_FILE} names; take both from the same "
                "commit (git checkout COMMIT -- dvc.lock results), or run dvc repro."
            )


def _finished_stages(name: str, values: dict[str, Any], lock: Path) -> dict[str, Any]:
    """What DVC's lock has of a run, unless its report is another one's: it ended earlier."""
    content = (load_yaml(lock) or {}) if lock.is_file() else {}
    stages: dict[str, Any] = content.get("stages") or {}
    locked = stages.get("report", {}).get("params", {}).get(PARAMS_FILE.name)
    if locked is None or any(values.get(key) != value for key, value in locked.items()):
        raise UserError(
            f"{name} hasn't run to its end with these settings; run it again (dvc repro, or dvc "
            "exp run without a stage)."
        )
    return stages


def _hash_of_prompts(name: str, stages: dict[str, Any]) -> str:
    """The hash of the validation prompts that a report was made of."""
    hashes = {Path(each["path"]): each.get("md5") for each in stages["report"].get("deps") or ()}
    if hashes.get(PROMPTS) is None:
        raise UserError(f"{name}: its {LOCK_FILE} names no {PROMPTS} for the stage report.")
    return str(hashes[PROMPTS])


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
        groups.setdefault(_group_key(run), {}).setdefault(run.seed, run)
    return [sorted(group.values(), key=lambda run: run.seed) for group in groups.values()]


def _group_key(run: Run) -> str:
    return json.dumps([run.settings, run.prompts], sort_keys=True)


def not_averaged(runs: Sequence[Run]) -> list[str]:
    """A sentence about each run that no other one differs from in the seed alone.

    Args:
        runs: Finished runs.
    """
    groups = {_group_key(group[0]): group for group in by_settings(runs)}
    sentences = []
    for run in runs:
        group = groups[_group_key(run)]
        (first,) = [each for each in group if each.seed == run.seed]
        if first is not run:
            sentences.append(
                f"{run.name} isn't counted: {first.name} has the same settings and train.seed = "
                f"{run.seed}, too."
            )
        elif len(group) == 1 and run is not runs[0]:
            sentences.append(
                f"{run.name} isn't averaged with {runs[0].name}: {_difference(run, runs[0])}."
            )
    return sentences


def _difference(run: Run, other: Run) -> str:
    """What tells two runs apart besides the seed, in words."""
    for key in dict.fromkeys([*other.settings, *run.settings]):
        if run.settings.get(key) != other.settings.get(key):
            return f"{key} is {run.settings.get(key)!r}, and not {other.settings.get(key)!r}"
    return "its validation prompts are others"
