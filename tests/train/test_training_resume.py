"""Trainings in processes of their own: killed and resumed, and two processes as one."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import DATE, ROOT, transformers_model
from tiny_trainings import (
    DEMONSTRATIONS,
    MORE_PAIRS,
    MORE_PROMPTS,
    PAIRS,
    PROMPTS,
    method_params,
    settings,
    train_params,
    weights,
)
from warm_python import warm_python

from persodpo.train.checkpoints import last_checkpoint
from persodpo.train.run import train_policy

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


TRAINING = """
import sys, time
sys.path[:0] = ["tests", "tests/train"]
import persodpo.train.trainer as trainer
from persodpo import processes
from tiny_trainings import MORE_PAIRS, MORE_PROMPTS, PAIRS, PROMPTS, settings
from persodpo.train.run import train_policy

original = trainer.ScoreWeightedDPOTrainer.training_step
def slow(self, *args, **kwargs):
    time.sleep(float(sys.argv[3]))
    return original(self, *args, **kwargs)
trainer.ScoreWeightedDPOTrainer.training_step = slow
arguments = settings(*sys.argv[1:3], *sys.argv[4:])
run = train_policy(PAIRS + MORE_PAIRS, PROMPTS + MORE_PROMPTS, *arguments)
run.log.assign(processes=processes.count()).to_csv(sys.argv[2] + ".csv", index=False)
run.discard_checkpoints()
processes.finish()
"""


def start(model, policy, root, seconds, *launch, further=()):
    return subprocess.Popen(
        [*launch, root / "training.py", model, policy, str(seconds), *further],
        cwd=ROOT, env=os.environ | {"DVC_ROOT": str(root), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def finish(process):
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error.decode()


@pytest.fixture(params=["base", "start"])
def trained_from(request, tiny_model, tmp_path):
    """The further argument of `settings`: the folder of a policy to start from, or none."""
    if request.param == "base":
        return ()
    params = train_params(epochs=2)
    policy = tmp_path / "sft"
    base = transformers_model(tiny_model)
    train_policy(
        DEMONSTRATIONS, PROMPTS, method_params(loss="nll"), params, base, 110, DATE, policy
    )
    return (policy,)


@pytest.fixture
def uninterrupted(tiny_model, tmp_path, trained_from):
    """The same training in one piece and one process: its log, and the folder of its policy."""
    arguments = settings(tiny_model, tmp_path / "whole", *trained_from)
    run = train_policy(PAIRS + MORE_PAIRS, PROMPTS + MORE_PROMPTS, *arguments)
    return run.log, tmp_path / "whole"


def test_killed_and_resumed(tiny_model, tmp_path, trained_from, uninterrupted):
    """kill -9 behind the second of four checkpoints, and a checkpoint that was cut short."""
    root = tmp_path / "killed"
    root.mkdir()
    (root / "training.py").write_text(TRAINING)
    process = start(tiny_model, root / "policy", root, 0.7, sys.executable, further=trained_from)
    checkpoints = root / ".cache/training"
    while not list(checkpoints.glob("*/checkpoint-4/trainer_state.json")):
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (folder,) = checkpoints.glob("*/")
    (folder / "checkpoint-6").mkdir(exist_ok=True)
    (folder / "checkpoint-6/trainer_state.json").write_text('{"global_')
    assert last_checkpoint(folder) == folder / "checkpoint-4"
    assert not (root / "policy").exists()
    finish(start(tiny_model, root / "policy", root, 0, warm_python(), further=trained_from))
    log = pd.read_csv(root / "policy.csv")
    expected, policy = uninterrupted
    assert log["step"].tolist() == list(range(1, 10))
    for column in ("loss", "grad_norm", "num_tokens", "eval_loss"):
        assert np.allclose(log[column], expected[column], atol=1e-5, equal_nan=True), column
    one, two = weights(root / "policy"), weights(policy)
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    assert not any(checkpoints.glob("*/"))


def test_two_processes_train_as_one(tiny_model, tmp_path, trained_from, uninterrupted, monkeypatch):
    monkeypatch.setenv("PYTHON_EXEC", warm_python())
    root = tmp_path / "two"
    root.mkdir()
    (root / "training.py").write_text(TRAINING)
    launch = [warm_python(), "-m", "accelerate.commands.launch", "--multi_gpu",
              "--num_processes", "2"]  # fmt: skip
    finish(start(tiny_model, root / "policy", root, 0, *launch, further=trained_from))
    log = pd.read_csv(root / "policy.csv")
    assert (log["processes"] == 2).all()
    expected, policy = uninterrupted
    for column in ("grad_norm", "loss", "loss/total", "rewards/margins", "weight/mean",
                   "num_tokens", "eval_loss"):  # fmt: skip
        near = np.allclose(log[column], expected[column], rtol=1e-4, atol=1e-6, equal_nan=True)
        assert near, column
    one, two = weights(root / "policy"), weights(policy)
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
