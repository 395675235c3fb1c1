"""A training that goes on is watched by `dvc plots show`, and a killed one keeps its curve."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from workspace import change_params

pytestmark = pytest.mark.slow

LOG = "artifacts/training/sft.csv"


@pytest.fixture(scope="module")
def workspace(finished_workspace, tmp_path_factory):
    """One whose next training of `sft` has 100 epochs, and that has no log of the last one."""
    copy = finished_workspace.copy_to(tmp_path_factory.mktemp("live") / "workspace")
    change_params(
        lambda params: params["train"].update(epochs=100, checkpoint_steps=3),
        copy.folder / "params.yaml",
    )
    (copy.folder / LOG).unlink()
    return copy


def curve(workspace):
    """What `dvc plots show` draws of the loss of `sft`, by step."""
    shown = workspace.run("dvc", "plots", "show", "--json", "loss")
    # what DVC says on standard error stands behind it
    (plot,) = json.JSONDecoder().raw_decode(shown)[0]["data"]["loss"]
    points = plot["content"]["data"]["values"]
    return [int(point["step"]) for point in points if point["filename"].endswith("sft.csv")]


def test_a_run_is_plotted_while_it_goes_on_and_after_it_was_killed(workspace):
    # without the tests' warm Python, whose stages aren't killed with the process that starts them
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    output = workspace.folder / "output.txt"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["dvc", "repro", "train@sft"], cwd=workspace.folder, start_new_session=True,
            env=os.environ | {"PATH": path}, stdout=file, stderr=file,
        )  # fmt: skip
    log = workspace.folder / LOG
    try:
        while not log.is_file() or len(pd.read_csv(log)) < 4:
            assert process.poll() is None, output.read_text()
            time.sleep(0.1)
        steps = curve(workspace)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 4
    later = curve(workspace)
    assert later == list(range(1, len(later) + 1))
    assert len(later) >= len(steps)
    time.sleep(1)
    assert curve(workspace) == later
