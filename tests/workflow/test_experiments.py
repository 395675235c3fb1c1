"""The commands of docs/experiments.md run, and its table of what runs is what DVC says."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager
from typing import Any, NamedTuple

import networkx
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from dvc.repo import Repo
from workspace import Workspace

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
# Two experiments that the page makes, and a model that the tests add to the pool.
MARGINS = ("w1_0.32_margin_0.4", "w1_0.32_margin_1.25")
NEW = "smollm2_sampled"
# Of these DVC's graph would have a ring: pairs depend on the data of the method, and it on them.
CYCLIC = {"train.methods.sft.data", "train.methods.sft.start"}
# Keys that stand in the stages' commands or files, with another value; each is changed by itself.
TEMPLATED = {
    "launch": "accelerate launch",
    "pool": ["smollm2_greedy", "golden", NEW],
    "sample.train_file": "data/focus/valid.json",
    "sample.valid_file": "data/focus/train.json",
    "generate.prices": "README.md",
    "train.model": "golden",
    "train.methods.dpo.data": "persodpo",
    "train.methods.persodpo.data": "dpo",
    "train.methods.dpo.start": "base",
    "train.methods.persodpo.start": "dpo",
    "evaluate.baselines.base": "smollm2_no_persona",
    "evaluate.baselines.golden": "smollm2_greedy",
}


def blocks(text: str) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)


def section(title: str) -> str:
    """The first code block of a section of the page."""
    return blocks(PAGE.split(f"\n## {title}\n")[1])[0]


@pytest.fixture(scope="module")
def workspace(finished_workspace, tmp_path_factory) -> Workspace:
    workspace = finished_workspace.copy_to(tmp_path_factory.mktemp("experiments") / "workspace")
    # so that make doesn't install; its commands are found in the environment of the tests
    (workspace.folder / ".venv").mkdir()
    (workspace.folder / ".venv/installed").touch()
    return workspace


# What runs: the table


class Row(NamedTuple):
    """A row of the table: keys of params.yaml, words about them, and stages by name."""

    keys: list[str]
    words: str
    runs: list[str]
    follows: list[str]


def table() -> list[Row]:
    lines = PAGE.split("\n## What runs\n")[1].splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| ")][1:]
    rows = []
    for change, runs, follows in cells:
        keys = [key for key in names(change) if not key.startswith("python ")]
        rows.append(Row(keys, re.sub(r"`.*?`", "", change), names(runs), names(follows)))
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`(.*?)`", cell)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every single value of params.yaml, with its key in full."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def applies(row: Row, key: str, params: Mapping[str, Any]) -> bool:
    if not any(
        re.match(re.sub(r"<\w+>", r"[^.]+", pattern.replace(".", r"\.")) + r"(\.|$)", key)
        for pattern in row.keys
    ):
        return False
    model = key.split(".")[1] if "." in key else ""
    roles = {
        "in the pool": model in params["pool"],
        "of a baseline": model in params["evaluate"]["baselines"].values(),
        "is trained": model == params["train"]["model"],
    }
    return all(holds for words, holds in roles.items() if words in row.words)


def expected(
    key: str, params: Mapping[str, Any], stages: Iterable[str]
) -> tuple[set[str], set[str]]:
    """What the table says of a key: the stages that run, and those that may follow.

    The rows that apply add up; one of "any other" key applies where no other does.
    """
    rows = [row for row in table() if applies(row, key, params)]
    rows = [row for row in rows if "any other" not in row.words] or rows
    assert rows, f"{key} is in no row of the table"
    runs, follows = (
        {stage for name in stated for stage in instances(name, key, params, stages)}
        for stated in (
            [name for row in rows for name in row.runs],
            [name for row in rows for name in row.follows],
        )
    )
    return runs, follows - runs


def methods_of(which: str, key: str, params: Mapping[str, Any]) -> set[str]:
    """The methods that the table means by `pairs` and by `others`."""
    methods = params["train"]["methods"]

    def before(name: str) -> list[str]:
        start = methods[name]["start"]
        return [] if start == "base" else [start, *before(start)]

    if which == "others":
        return {name for name in methods if key.split(".")[2] in before(name)}
    return {
        name
        for name in methods
        if any(methods[each]["data"] != "golden" for each in [name, *before(name)])
    }


def instances(name: str, key: str, params: Mapping[str, Any], stages: Iterable[str]) -> set[str]:
    """The stages that the table means by a name such as train, train@<key> or baseline@<name>."""
    kind, _, which = name.partition("@")
    parts = key.split(".")
    if not which:
        return {stage for stage in stages if stage.split("@")[0] == kind}
    if which in ("pairs", "others"):
        meant = methods_of(which, key, params)
    elif which == "<new>":
        meant = {NEW}
    elif which == "<name>" and parts[0] == "models":
        baselines = params["evaluate"]["baselines"]
        meant = {name for name, model in baselines.items() if model == parts[1]}
    else:
        meant = {parts[1] if parts[0] == "models" else parts[2]}
    return {f"{kind}@{instance}" for instance in meant}


class Status(NamedTuple):
    """What DVC says of a workspace.

    Attributes:
        changed: Per stage that isn't up to date, the parameters that differ from its last run.
        graph: An edge leads from each stage to those whose files it reads.
    """

    changed: dict[str, set[str]]
    graph: networkx.DiGraph

    def followers(self, stages: Iterable[str]) -> set[str]:
        """The other stages that read what these write, directly or through others."""
        found = {follower for stage in stages for follower in networkx.ancestors(self.graph, stage)}
        return found - set(stages)


def status(workspace: Workspace) -> Status:
    # there, because DVC tells stages elsewhere by their path
    with chdir(workspace.folder), Repo() as repo:
        changed = {
            stage: {
                name
                for entry in entries
                if isinstance(entry, dict)
                for name in entry.get("changed deps", {}).get("params.yaml", {})
            }
            for stage, entries in repo.status().items()
        }
        edges = [(one.addressing, other.addressing) for one, other in repo.index.graph.edges]
        return Status(changed, networkx.DiGraph(edges))


@contextmanager
def settings(workspace: Workspace, changes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Change params.yaml for a while; yields all values."""
    path = workspace.folder / "params.yaml"
    text = path.read_text()
    params = yaml.safe_load(text)
    for key, value in changes.items():
        *sections, name = key.split(".")
        inner = params
        for part in sections:
            inner = inner[part]
        inner[name] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    yield params
    path.write_text(text)


def test_the_table_tells_what_every_value_changes(workspace):
    """All values are changed at once: DVC names the parameters that each stage finds changed.

    Beforehand each model is given a role: in the pool, a baseline, both, trained, or none.
    """
    roles = {
        "train.model": "smollm2_no_persona",
        "evaluate.baselines": {"base": NEW, "golden": "golden"},
        "models.unused": {"backend": "golden"},
    }
    with settings(workspace, roles) as params:
        values = {key: "changed" for key, _ in leaves(params) if key not in {*TEMPLATED, *CYCLIC}}
        with settings(workspace, roles | values):
            told = status(workspace)
    assert len(values) > 80
    for key in values:
        runs = {
            stage
            for stage, names in told.changed.items()
            if any(f"{key}.".startswith(f"{name}.") for name in names)
        }
        assert (runs, told.followers(runs)) == expected(key, params, told.graph), key


@pytest.mark.parametrize(("key", "value"), TEMPLATED.items())
def test_the_table_tells_what_a_templated_value_changes(workspace, key, value):
    params = yaml.safe_load((workspace.folder / "params.yaml").read_text())
    with settings(workspace, {key: value}):
        told = status(workspace)
    runs = set(told.changed)
    assert (runs, told.followers(runs)) == expected(key, params, told.graph)


# The commands


def shown(output: str) -> pd.DataFrame:
    """A table of `dvc exp show` as printed, by the experiment's name."""
    rows = [
        re.split(r"\s{2,}", line.strip()) for line in output.splitlines() if "──────" not in line
    ]
    return pd.DataFrame(rows[1:], columns=rows[0]).assign(
        Experiment=lambda table: table["Experiment"].str.extract(r"([\w.]+)\]?$")[0]
    ).set_index("Experiment")  # fmt: skip


def make_table(workspace: Workspace) -> list[pd.DataFrame]:
    output = workspace.run("make", "--silent", "table")
    tables, seeds = output.split("\n\n", 1)
    assert "to average" in seeds or seeds.startswith("S_total. ")
    lines = tables.splitlines()
    headers = [number for number, line in enumerate(lines) if "Experiment" in line]
    assert max(map(len, lines)) <= 160
    return [shown("\n".join(lines[: headers[1]])), shown("\n".join(lines[headers[1] :]))]


def rounded(value: float) -> float:
    """As DVC shows it: five significant digits."""
    return float(f"{value:.5g}")


def test_make_table_needs_no_experiment(workspace):
    scores, failures = make_table(workspace)
    metrics = json.loads((workspace.folder / "results/metrics.json").read_text())
    assert list(scores.index) == list(failures.index) == ["workspace", "main"]
    for name, values in metrics.items():
        assert float(scores.loc["main", f"{name}.s_total"]) == rounded(values["s_total"])
        ratio = float(failures.loc["main", f"{name}.failure_ratio"])
        assert ratio == rounded(values["failure_ratio"])
    assert len(failures.columns) == len(metrics)


@pytest.fixture(scope="module")
def sweep(workspace) -> str:
    """The page's loop with one value of w1."""
    loop, found = re.subn("for w1 in .*;", "for w1 in 0.32;", section("A sweep"))
    assert found == 1
    output = workspace.run("bash", "-ec", loop)
    assert workspace.run("git", "status", "--porcelain") == ""  # because of --temp
    return output


def test_a_sweep_forms_pairs_only(workspace, sweep):
    assert workspace.stages_run(sweep) == {"pair"}
    pairs = {}
    for experiment in json.loads(workspace.run("dvc", "exp", "show", "--json"))[1]["experiments"]:
        data = experiment["revs"][0]["data"]
        assert data["params"]["params.yaml"]["data"]["scoring"]["w1"] == 0.32
        margin = data["params"]["params.yaml"]["data"]["pairing"]["margin"]
        metrics = data["metrics"]["artifacts/pairs/metrics.json"]["data"]
        assert experiment["name"] == f"w1_0.32_margin_{margin}"
        pairs[margin] = metrics["persodpo"]["pairs"]
    assert pairs.keys() == {0.4, 1.25}
    assert pairs[0.4] > pairs[1.25]


def run_section(workspace: Workspace, title: str) -> dict[str, str]:
    """Runs the commands of a section one by one; what each printed."""
    return {line: workspace.run("bash", "-ec", line) for line in section(title).splitlines()}


def test_experiments_are_looked_at(workspace, sweep):
    outputs = run_section(workspace, "Look")
    scores, failures = make_table(workspace)
    assert set(scores.index) == set(failures.index) == {"workspace", "main", *MARGINS}
    assert list(scores.loc[list(MARGINS), "pairing.margin"]) == ["0.4", "1.25"]
    assert "scoring.w1" not in scores.columns  # it doesn't differ
    changes = shown(outputs["dvc exp show --only-changed --drop '.*/'"])
    assert {"persodpo.pairs", "persodpo.margin.min", "pairing.margin"} <= set(changes.columns)
    difference = outputs[f"dvc exp diff {' '.join(MARGINS)}"]
    assert re.search(r"pairing.margin +0.4 +1.25", difference)
    assert re.search(r"persodpo.pairs +\d+ +\d+ +-\d+", difference)
    plot = outputs[f"dvc plots diff {' '.join(MARGINS)}"]
    assert "dvc_plots/index.html" in plot
    page = (workspace.folder / "dvc_plots/index.html").read_text()
    assert all(name in page for name in MARGINS)


def test_an_experiment_is_kept_and_commits_are_compared(workspace, sweep):
    outputs = run_section(workspace, "Keep, compare commits, remove")
    assert re.search(r"persodpo.pairs +\d+ +\d+ +-\d+", outputs["dvc metrics diff HEAD~1"])
    assert re.search(r"pairing.margin +0.1 +1.25", outputs["dvc params diff HEAD~1"])
    page = (workspace.folder / "dvc_plots/index.html").read_text()
    assert "HEAD~1" in page and "workspace" in page
    changes = shown(outputs["dvc exp show -n 2 --only-changed --drop '.*/'"])
    assert {"main", *MARGINS} <= set(changes.index)
    assert "smaller-margin" in workspace.run("git", "branch")
    left = workspace.run("dvc", "exp", "list", "--all-commits", "--name-only").split()
    assert left == [MARGINS[1]]
