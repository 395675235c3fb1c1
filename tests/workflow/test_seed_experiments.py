"""The loop over seeds of docs/experiments.md, and what `python -m persodpo seeds` makes of it."""

import json
import re
from contextlib import chdir

import numpy as np
import pytest
from test_experiments import PAGE, blocks
from workspace import Workspace

from persodpo.experiments.runs import by_settings, read_runs
from persodpo.records import Evaluated, read_rows

pytestmark = pytest.mark.slow

LOOP = blocks(PAGE.split("\n## Seeds\n")[1])[0].replace("1 2 3 4", "1 2")


@pytest.fixture(scope="module")
def workspace(finished_workspace, tmp_path_factory) -> Workspace:
    copy = finished_workspace.copy_to(tmp_path_factory.mktemp("seeds") / "workspace")
    (copy.folder / ".venv").mkdir()
    (copy.folder / ".venv/installed").touch()
    assert 'SEEDS="1 2"' in LOOP
    copy.output = copy.run("bash", "-ec", LOOP)
    return copy


def seeds(workspace, *arguments, **options):
    return workspace.python("-m", "persodpo", "seeds", *arguments, **options)


def row(text, name):
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_loop_trains_and_its_table_averages(workspace):
    assert workspace.stages_run(workspace.output) >= {"train", "evaluate", "report"}
    assert "3 seeds (0, 1, 2), 3 prompts" in workspace.output
    metrics = [json.loads((workspace.folder / "results/metrics.json").read_text())]
    for name in ("seed_1", "seed_2"):
        shown = workspace.run(
            "git", "show", f"refs/exps/{_ref(workspace, name)}:results/metrics.json"
        )
        metrics.append(json.loads(shown))
    totals = [each["golden"]["s_total"] for each in metrics]
    cells = row(workspace.output, "golden")
    assert cells[1].startswith(f"{np.mean(totals):.2f} ± {np.std(totals, ddof=1):.2f}")
    assert row(workspace.output, "persodpo - sft: S_total ↑")[2].endswith(" of 3 seeds")


def _ref(workspace, name):
    (ref,) = [
        line.split()[1].removeprefix("refs/exps/")
        for line in workspace.run("git", "show-ref").splitlines()
        if line.endswith(f"/{name}")
    ]
    return ref


def test_the_loop_goes_on_where_it_was(workspace):
    output = workspace.run("bash", "-ec", LOOP)
    assert "Running stage" not in output
    workspace.run("dvc", "exp", "remove", "seed_2")
    again = workspace.run("bash", "-ec", LOOP)
    assert "3 seeds (0, 1, 2)" in again
    # what had finished before comes from DVC's cache
    assert "Running stage 'train" not in again


def test_some_are_chosen_and_a_brief_table(workspace):
    assert "2 seeds (0, 2)" in seeds(workspace, "workspace", "seed_2")
    assert "there is nothing to average" in seeds(workspace, "seed_1")
    brief = seeds(workspace, "--brief")
    assert len([line for line in brief.splitlines() if line.startswith("| ")]) == 2
    assert "as in workspace" in brief
    assert brief.strip() in workspace.run("make", "--silent", "table")
    output = seeds(workspace, "nobody", fails=True)
    assert "error: nobody: there is no such experiment of the last commit; there are" in output


def test_other_prompts_are_another_group(workspace):
    """As after an edit of the data, of which params.yaml says nothing."""
    with chdir(workspace.folder):
        runs, _ = read_runs(["workspace", "seed_1"])
    assert [len(group) for group in by_settings(runs)] == [2]
    results = runs[1].results
    edited = [each.model_copy(update={"golden_answer": "No."}) for each in results.prompts]
    other = runs[1]._replace(results=results._replace(prompts=edited))
    assert [len(group) for group in by_settings([runs[0], other])] == [1, 1]


def test_other_settings_are_another_group(workspace):
    for seed in (0, 1):
        workspace.run("dvc", "exp", "run", "--temp", "-n", f"flat_{seed}", "-S",
                      f"train.seed={seed}", "-S", "train.methods.persodpo.weight=none")  # fmt: skip
    output = seeds(workspace, "--brief")
    assert "| train.methods.persodpo.weight=none " in output
    assert "| as in workspace " in output
    workspace.run("dvc", "exp", "remove", "flat_0", "flat_1")


def test_an_experiment_that_ended_early_is_left_out(workspace):
    workspace.run("dvc", "exp", "run", "--temp", "-n", "early", "-S", "scoring.w1=1", "pair")
    output = seeds(workspace)
    assert "early is left out: early hasn't run to its end with these settings" in output
    assert "3 seeds (0, 1, 2)" in output
    assert "error: early hasn't run to its end" in seeds(workspace, "early", fails=True)
    workspace.run("dvc", "exp", "remove", "early")


def test_what_is_on_another_machine_is_left_out(workspace, tmp_path):
    """An experiment that was fetched by git alone: its answers aren't in DVC's cache here."""
    copy = workspace.copy_to(tmp_path / "workspace")
    rows = read_rows(copy.folder / "artifacts/evaluations/persodpo.jsonl", Evaluated)
    assert rows
    lock = copy.run("git", "show", f"refs/exps/{_ref(copy, 'seed_1')}:dvc.lock")
    entry = lock.split("artifacts/evaluations/persodpo.jsonl")[1]
    md5 = re.search(r"md5: (\w+)", entry)[1]
    file = copy.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    others = [copy.run("git", "show", f"refs/exps/{_ref(copy, 'seed_2')}:dvc.lock"),
              (copy.folder / "dvc.lock").read_text()]  # fmt: skip
    shared = any(md5 in other for other in others)
    file.unlink()
    output = seeds(copy)
    assert "seed_1 is left out: artifacts/evaluations/persodpo.jsonl of the experiment" in output
    if not shared:
        assert "2 seeds (0, 2)" in output
