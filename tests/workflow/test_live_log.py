"""A training that goes on is watched by `dvc plots show`, and a killed one keeps its curve."""

import json
import os
import signal
import subprocess
import time

import pandas as pd
import pytest
from warm_python import warm_python
from workspace import change_params

pytestmark = pytest.mark.slow

LOG = "artifacts/training/sft.csv"


@pytest.fixture(scope="module")
def workspace(finished_workspace, tmp_path_factory):
    """One whose next training of `sft` has a thousand epochs."""
    copy = finished_workspace.copy_to(tmp_path_factory.mktemp("live") / "workspace")
    change_params(
        lambda params: params["train"].update(epochs=1000, checkpoint_steps=3),
        copy.folder / "params.yaml",
    )
    return copy


def curve(workspace):
    """What `dvc plots show` draws of the loss of `sft`, by step."""
    shown = workspace.run("dvc", "plots", "show", "--json", "loss")
    # what DVC says on standard error stands behind it
    (plot,) = json.JSONDecoder().raw_decode(shown)[0]["data"]["loss"]
    points = plot["content"]["data"]["values"]
    return [int(point["step"]) for point in points if point["filename"].endswith("sft.csv")]


def test_a_run_is_plotted_while_it_goes_on_and_after_it_was_killed(workspace):
    warm_python()
    process = subprocess.Popen(
        ["dvc", "repro", "train@sft"], cwd=workspace.folder, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    log = workspace.folder / LOG
    while not log.is_file() or len(pd.read_csv(log)) < 4:
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.1)
    try:
        steps = curve(workspace)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 4
    later = curve(workspace)
    assert later == list(range(1, len(later) + 1))
    assert len(later) >= len(steps)
