"""The dev container and the CI workflow name what README.md tells a newcomer, and nothing else."""

import json
import re

import yaml
from conftest import ROOT

COMMANDS = re.findall(r"^(make \w+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)


def test_the_workflow_runs_the_commands_of_the_readme():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert COMMANDS[:2] == ["make repro", "make test"]
    assert set(COMMANDS[:2]) < set(runs)
    assert runs == [line for line in (ROOT / ".ci/run").read_text().splitlines()
                    if line.startswith("make ")]  # fmt: skip


def test_the_dev_container_is_read_and_makes_the_environment():
    folder = ROOT / ".devcontainer"
    container = json.loads((folder / "devcontainer.json").read_text())
    dockerfile = (folder / container["build"]["dockerfile"]).read_text()
    assert container["postCreateCommand"] == "make .venv/dev"
    assert "\n.venv/dev: " in (ROOT / "Makefile").read_text()
    (version,) = re.findall(r"^FROM python:(3\.\d+)-", dockerfile, re.M)
    assert f'requires-python = ">={version}"' in (ROOT / "pyproject.toml").read_text()
    for tool in ("git", "make"):
        assert re.search(rf"\b{tool}\b", dockerfile)
