"""Folders of runs, made from one of results/laptop: which are averaged, and what is refused."""

import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from typer.testing import CliRunner

from persodpo.cli import app
from persodpo.errors import UserError
from persodpo.experiments import not_averaged, read_runs
from persodpo.experiments.tables import brief_table

RUN = ROOT / "results/laptop/seed_2"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Copies of the run with other settings, as if the workflow had run with them."""
    monkeypatch.chdir(ROOT)

    def copy(name, **replaced):
        folder = tmp_path / name
        shutil.copytree(RUN, folder)
        for file in ("params.yaml", "dvc.lock"):
            text = (folder / file).read_text()
            for before, after in {"seed: 2\n": "seed: 3\n", **replaced}.items():
                text = text.replace(before, after)
            (folder / file).write_text(text)
        return str(folder)

    return copy


def edit(folder, file, change):
    path = Path(folder, file)
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)


def test_what_changes_no_value_does_not_part_runs(make):
    launch = {"launch: python\n": "launch: accelerate launch --num_processes 2\n"}
    runs, _ = read_runs([str(RUN), make("other", **launch)])
    assert [run.seed for run in runs] == [2, 3]
    assert not_averaged(runs) == []
    assert "| as in " in brief_table(runs)


def test_a_whole_number_is_the_same_as_one_with_a_point(make):
    two = {"w1: 0.32": "w1: 2.0"}
    folders = [make("a", **two), make("b", **{"w1: 0.32": "w1: 2", "seed: 2\n": "seed: 2\n"})]
    runs, _ = read_runs(folders)
    assert not_averaged(runs) == []
    assert len([line for line in brief_table(runs).splitlines() if "| as in " in line]) == 1


def test_a_run_that_is_not_averaged_is_named_with_the_reason(make):
    weight = make("weight", **{"w1: 0.32": "w1: 2.0"})
    same = make("same", **{"seed: 2\n": "seed: 2\n"})
    prompts = make("prompts")
    hash_of = re.compile(r"(path: artifacts/prompts/valid.jsonl\n +hash: md5\n +md5: )\w{32}")
    edit(prompts, "dvc.lock", lambda text: hash_of.sub(r"\g<1>" + "0" * 32, text))
    runs, _ = read_runs([str(RUN), make("three"), weight, same, prompts])
    assert not_averaged(runs) == [
        f"{weight} isn't averaged with {RUN}: scoring.w1 is 2.0, and not 0.32.",
        f"{same} isn't counted: {RUN} has the same settings and train.seed = 2, too.",
        f"{prompts} isn't averaged with {RUN}: its validation prompts are others.",
    ]
    done = CliRunner().invoke(app, ["seeds", "--brief", str(RUN), weight])
    assert "No two runs differ in train.seed alone" in done.output
    assert "scoring.w1 is 2.0, and not 0.32" in done.stderr


def test_groups_on_other_prompts_have_other_titles(make):
    names = ["a", "b"]
    folders = [make(name, **{"seed: 2\n": f"seed: {seed}\n"})
               for seed, name in enumerate(names)]  # fmt: skip
    for folder in folders:
        edit(folder, "dvc.lock", lambda text: re.sub(
            r"(path: artifacts/prompts/valid.jsonl\n +hash: md5\n +md5: )\w{32}",
            r"\g<1>" + "0" * 32, text))  # fmt: skip
    runs, _ = read_runs([str(RUN), make("three"), *folders])
    table = brief_table(runs)
    assert f"| as in {RUN} " in table
    assert f"| validation prompts of {folders[0]} " in table


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("dvc.lock", lambda text: "", "hasn't run to its end with these settings"),
        ("dvc.lock", lambda text: text.replace("path: artifacts/prompts/valid", "path: other"),
         "names no artifacts/prompts/valid.jsonl for the stage report"),
        ("results/scores.csv", lambda text: re.sub(r"0\.\d+", "0.5", text, count=1),
         "results/scores.csv isn't the one that its dvc.lock names"),
        ("results/candidates.csv", lambda text: re.sub(r"\npersodpo,.*", "", text),
         "results/candidates.csv: can't be read"),
        ("results/candidates.csv", lambda text: re.sub(r"0\.\d+", "0.5", text, count=1),
         "results/candidates.csv isn't the one that its dvc.lock names"),
    ],
)  # fmt: skip
def test_a_broken_folder_is_refused_in_one_sentence(make, file, change, sentence):
    folder = make("broken")
    edit(folder, file, change)
    with pytest.raises(UserError) as caught:
        read_runs([folder])
    assert sentence in str(caught.value)
