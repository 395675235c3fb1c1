"""One person pushes, another pulls: nothing is called, trained or lost on the way.

The commands are those of docs/sharing.md. Who pulls has no package that runs models, and where
only files are fetched the model's folder is out of reach, too.
"""

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT
from dvc.cli import parse_args
from workspace import Workspace

from benchmarks.sharing import MODEL_PACKAGES, block_models

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/sharing.md").read_text(encoding="utf-8")
GENERATION = "artifacts/generation/smollm2_greedy.json"
PAIRS = "artifacts/pairs/metrics.json"


def blocks(title: str) -> list[str]:
    """The code blocks of a section of the page."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)


class Team(NamedTuple):
    """What two persons share, and the workspace of the first of them."""

    first: Workspace
    repository: Path
    remote: Path

    def clone(self, folder: Path) -> Workspace:
        """A second person's workspace, on another path, as git alone makes it."""
        self.first.run("git", "clone", "-q", str(self.repository), str(folder))
        return Workspace(folder)


def shell(workspace: Workspace, commands: str) -> str:
    return workspace.run("bash", "-ec", commands)


def read(workspace: Workspace, file: str) -> dict:
    return json.loads((workspace.folder / file).read_text())


def set_params(workspace: Workspace, old: str, new: str) -> None:
    path = workspace.folder / "params.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def own_model(tiny_model, tmp_path_factory) -> Path:
    """The tiny model elsewhere, since it is moved away while other tests use theirs."""
    return shutil.copytree(tiny_model, tmp_path_factory.mktemp("own") / "tiny")


@pytest.fixture(scope="module")
def team(finished_workspace, tiny_model, own_model, tmp_path_factory) -> Team:
    folder = tmp_path_factory.mktemp("team")
    team = Team(finished_workspace.copy_to(folder / "first"), folder / "git", folder / "remote")
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        path = team.first.folder / name
        path.write_text(path.read_text().replace(str(tiny_model), str(own_model)))
    team.first.commit("a model of its own")
    team.first.run("git", "init", "-q", "--bare", "-b", "main", str(team.repository))
    team.first.run("git", "remote", "add", "origin", str(team.repository))
    (set_up,) = blocks("Set up, once")
    assert "/mnt/share/persodpo" in set_up
    shell(team.first, set_up.replace("/mnt/share/persodpo", str(team.remote)))
    team.first.run("git", "push", "-q", "-u", "origin", "main")
    (push,) = blocks("Push")
    assert "files pushed" in shell(team.first, push)
    return team


@pytest.fixture
def second(team, tmp_path) -> Workspace:
    """A clone that nothing was pulled into."""
    return team.clone(tmp_path / "second")


@pytest.fixture(scope="module")
def pulled_once(team, tmp_path_factory) -> Workspace:
    workspace = team.clone(tmp_path_factory.mktemp("pulled") / "workspace")
    workspace.run("dvc", "pull")
    return workspace


@pytest.fixture
def pulled(pulled_once, tmp_path) -> Workspace:
    """A clone after `dvc pull`."""
    return pulled_once.copy_to(tmp_path / "pulled")


@pytest.fixture
def no_packages(tmp_path_factory, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", block_models(tmp_path_factory.mktemp("block")))


@pytest.fixture
def no_models(no_packages, own_model) -> Iterator[None]:
    """Nor the model's folder, on which stages depend; so DVC is told to allow what is missing."""
    away = own_model.with_name("away")
    own_model.rename(away)
    yield
    away.rename(own_model)


def test_the_models_are_out_of_reach(no_models, second, own_model):
    for package in MODEL_PACKAGES:
        output = second.python("-c", f"import {package}", fails=True)
        assert f"ImportError: {package} is out of reach" in output
    assert str(own_model) in (second.folder / "params.yaml").read_text()
    assert not own_model.exists()


def test_nothing_runs_after_a_pull(team, second, no_models):
    pull, experiment, _ = blocks("Pull")
    output = shell(second, pull)
    assert "files added" in output
    assert "Running stage" not in output
    for file in ("results/table1.md", "artifacts/responses/smollm2_greedy.jsonl", PAIRS):
        assert (second.folder / file).read_bytes() == (team.first.folder / file).read_bytes()
    assert second.stages_run(shell(second, experiment)) == {"pair"}
    assert not (second.folder / ".cache").exists()


def test_an_experiment_needs_no_pull(team, second, no_models):
    _, experiment, back = blocks("Pull")
    assert second.stages_run(shell(second, experiment)) == {"pair"}
    assert not (second.folder / ".cache").exists()  # no answer, no judgement
    assert not (second.folder / "artifacts/policies").exists()
    heavier, committed = (read(workspace, PAIRS)["persodpo"] for workspace in (second, team.first))
    assert heavier["pairs"] == committed["pairs"]
    assert heavier["margin"]["mean"] > committed["margin"]["mean"] + 1
    shell(second, back)
    assert "Running stage" not in second.run("dvc", "repro", "--allow-missing")
    assert read(second, PAIRS)["persodpo"] == committed


def test_an_experiment_is_shared(team, pulled, second, no_packages):
    first = pulled
    first.run("dvc", "exp", "run", "-n", "heavier", "-S", "scoring.w1=2", "pair")
    push, *others = blocks("Experiments")[0].splitlines()
    shell(first, push)
    output = shell(second, "\n".join(others))
    assert "heavier" in output
    assert "Running stage" not in output + second.run("dvc", "repro", "pair")
    assert read(second, PAIRS) == read(first, PAIRS) != read(team.first, PAIRS)


def test_one_policy_is_fetched_without_a_clone(team, second, no_packages):
    register, get = blocks("One policy")
    shell(team.first, register)
    shell(second, get)
    fetched = {
        file.name: file.read_bytes() for file in (second.folder / "persodpo-adapter").iterdir()
    }
    policy = team.first.folder / "artifacts/policies/persodpo"
    assert fetched == {file.name: file.read_bytes() for file in policy.iterdir()}
    assert "adapter_model.safetensors" in fetched
    assert not (second.folder / "artifacts").exists()


def test_a_larger_sample_asks_for_the_new_prompts_only(pulled):
    assert "smollm2_greedy: 5 of 5 responses" in shell(pulled, blocks("A larger sample")[0])
    set_params(pulled, "n_train: 5\n", "n_train: 7\n")
    pulled.run("dvc", "repro", "generate@smollm2_greedy")
    metrics = read(pulled, GENERATION)
    assert (metrics["requests"], metrics["cache_hits"], metrics["calls"]) == (7, 5, 2)


def test_a_conflict_is_resolved(pulled, no_packages):
    """The lock of one side with the settings of the other: DVC finds the files that fit."""
    pulled.run("git", "branch", "theirs")
    margins = {}
    for branch, w1 in (("theirs", 2), ("main", 1)):
        pulled.run("git", "switch", "-q", branch)
        pulled.run("dvc", "checkout", "-q")
        set_params(pulled, "w1: 0.32\n", f"w1: {w1}\n")
        assert pulled.stages_run(pulled.run("dvc", "repro", "pair")) == {"pair"}
        margins[branch] = read(pulled, PAIRS)["persodpo"]["margin"]["mean"]
        pulled.commit(f"w1 is {w1}")
    assert "Merge conflict in dvc.lock" in pulled.run("git", "merge", "theirs", fails=True)
    pulled.run("dvc", "status", fails=True)
    (resolve,) = blocks("Conflicts")
    assert "dvc repro --pull\n" in resolve
    resolve = resolve.replace("dvc repro --pull\n", "dvc repro --pull pair\n")
    output = shell(pulled, f"git checkout --theirs params.yaml\ngit add params.yaml\n{resolve}")
    assert "Running stage" not in output
    assert read(pulled, PAIRS)["persodpo"]["margin"]["mean"] == margins["theirs"]
    assert "up to date" in pulled.run("dvc", "status", "pair")
    assert pulled.run("git", "status", "--porcelain") == ""


def test_a_remote_that_lacks_files_is_reported(second, tmp_path):
    second.run("dvc", "remote", "modify", "--local", "team", "url", str(tmp_path / "empty"))
    output = second.run("dvc", "pull", fails=True)
    assert "failed to pull data from the cloud" in output
    assert "artifacts/responses/smollm2_greedy.jsonl" in output
    assert second.run("git", "status", "--porcelain") == ""
    assert not any(path.is_file() for path in (second.folder / "artifacts").rglob("*"))


def test_a_damaged_file_of_the_remote_is_reported(team, second):
    name = hashlib.md5((team.first.folder / GENERATION).read_bytes()).hexdigest()
    file = team.remote / "files/md5" / name[:2] / name[2:]
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content + b"?")
    file.chmod(0o444)  # as DVC leaves it, and trusts it without `verify`
    output = second.run("dvc", "pull", fails=True)
    assert f"following targets:\n{GENERATION}\n" in output
    file.unlink(missing_ok=True)
    file.write_bytes(content)


def test_the_clean_up_counts_only(pulled):
    output = shell(pulled, blocks("Clean up")[0])
    assert "No unused 'repo' cache to remove." in output
    assert "0 entries to remove" in output


def test_every_command_is_one_of_dvc():
    """Those in the code blocks, and those in the text that have options."""
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
             for line in re.split("&&|\n", block)]  # fmt: skip
    lines += re.findall(r"`(dvc [^`]* -[^`]*)`", PAGE)
    commands = [words[1:] for words in map(shlex.split, lines) if words[:1] == ["dvc"]]
    assert len(commands) > 20
    for command in commands:
        parse_args(command)
