"""The loop over seeds of docs/experiments.md, and what `python -m persodpo seeds` makes of it."""

import json
import re
import shutil
from contextlib import chdir

import numpy as np
import pytest
from test_experiments import PAGE, blocks
from workspace import Workspace

from persodpo.errors import UserError
from persodpo.experiments.runs import FILES, by_settings, read_runs

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
    assert "error: nobody: there is no such experiment of the last commit, and no folder" in output


def run_folder(workspace, name, folder):
    """An experiment's files in a folder of their own, as git gives them."""
    for file in FILES:
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shown = workspace.run("git", "show", f"refs/exps/{_ref(workspace, name)}:{file}")
        target.write_text(shown)
    return folder


def test_folders_of_runs_are_averaged(workspace, tmp_path):
    """As with seeds that were made on several machines."""
    folder = run_folder(workspace, "seed_1", tmp_path / "seed_1")
    assert seeds(workspace, "workspace", str(folder)) == seeds(workspace, "workspace", "seed_1")


def test_other_prompts_are_another_group(workspace, tmp_path):
    """As after an edit of the data, of which params.yaml says nothing."""
    folder = run_folder(workspace, "seed_1", tmp_path / "seed_1")
    lock = (folder / "dvc.lock").read_text()
    entry = lock.split("path: artifacts/prompts/valid.jsonl")[1]
    md5 = re.search(r"md5: (\w+)", entry)[1]
    (folder / "dvc.lock").write_text(lock.replace(md5, md5[::-1]))
    with chdir(workspace.folder):
        runs, _ = read_runs(["workspace", "seed_1"])
        others, _ = read_runs(["workspace", str(folder)])
    assert [len(group) for group in by_settings(runs)] == [2]
    assert [len(group) for group in by_settings(others)] == [1, 1]


@pytest.mark.parametrize(
    ("file", "edit", "sentence"),
    [
        ("dvc.lock", None, "hasn't run to its end with these settings"),
        ("results/scores.csv", None, "results/scores.csv: can't be read"),
        ("results/candidates.csv", None, "results/candidates.csv: can't be read"),
        ("results/scores.csv", lambda text: text.replace("s_total", "total"), "can't be read"),
        ("results/scores.csv", lambda text: text[: text.rindex("\npersodpo") + 1],
         "it must have each prompt once for each of base, golden"),
        ("results/candidates.csv", lambda text: text.replace("distinct_2", "distinct"),
         "results/candidates.csv: can't be read"),
    ],
)  # fmt: skip
def test_a_bad_folder_is_refused(workspace, tmp_path, file, edit, sentence):
    folder = run_folder(workspace, "seed_1", tmp_path / "seed_1")
    if edit is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(edit((folder / file).read_text()))
    with chdir(workspace.folder), pytest.raises(UserError) as caught:
        read_runs([str(folder)])
    assert sentence in str(caught.value)


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


def test_runs_of_another_machine_are_averaged(workspace, tmp_path):
    """Experiments that were fetched by git alone: DVC's cache has none of their files here."""
    copy = workspace.copy_to(tmp_path / "workspace")
    before = seeds(copy)
    shutil.rmtree(copy.folder / ".dvc/cache")
    assert "3 seeds (0, 1, 2)" in before
    assert seeds(copy) == before
