"""Every command of docs/experiments.md is one of DVC, and sets a key that there is."""

import re
import shlex

import pytest
import yaml
from conftest import ROOT
from dvc.cli import parse_args
from test_experiments import PAGE, blocks, leaves

pytestmark = pytest.mark.slow


def dvc_commands() -> list[list[str]]:
    """The arguments of every command of DVC on the page."""
    lines = [line for block in blocks(PAGE) for line in re.split("&&|\\|+|\n", block)]
    words = [shlex.split(line, comments=True) for line in lines]
    return [command[1:] for command in words if command[:1] == ["dvc"]]


def test_every_command_is_one_of_dvc_and_sets_a_known_key(capsys):
    known = {key for key, _ in leaves(yaml.safe_load((ROOT / "params.yaml").read_text()))}
    commands = dvc_commands()
    assert len(commands) > 15
    for command in commands:
        arguments = parse_args(command)
        for setting in getattr(arguments, "set_param", None) or []:
            assert setting.split("=")[0] in known
