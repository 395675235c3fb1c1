"""Trainings whose weights and optimiser are sharded, by FSDP2 and by DeepSpeed's ZeRO-2.

Two processes on the CPU, by accelerate's launcher and the files of docs/scale.md. accelerate shards
on accelerators only, so the processes tell it that they are some; everything else is real: the
sharded weights, the exchange of gradients (gloo), the checkpoints, the saved policy.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from conftest import ROOT
from tiny_trainings import MORE_PAIRS, MORE_PROMPTS, PAIRS, PROMPTS, settings, weights

from benchmarks.sharding import KINDS, launcher_config
from persodpo.models.loading import load_adapter, load_causal_lm
from persodpo.train.run import train_policy

pytestmark = pytest.mark.slow

TRAINING = """
import json, os, signal, sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/train"]
from benchmarks.sharding import shard_on_cpu
shard_on_cpu()

import persodpo.train.trainer as trainer
from persodpo import processes
from test_training_sharded import train

folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
kinds, first = set(), []
step = trainer.ScoreWeightedDPOTrainer.training_step
def watched(self, *args, **kwargs):
    if self.state.global_step == options["killed_at"]:
        os.kill(os.getpid(), signal.SIGKILL)
    first.append(self.state.global_step)
    loss = step(self, *args, **kwargs)
    kinds.update(type(each).__name__ for each in [self.model_wrapped, *self.model.parameters()])
    return loss
trainer.ScoreWeightedDPOTrainer.training_step = watched

run = train(folder, **options["train"])
log = run.log.assign(kinds=" ".join(sorted(kinds)), processes=processes.count(), first=first[0])
log.to_csv(folder / "log.csv", index=False)
run.discard_checkpoints()
processes.finish()
"""
COLUMNS = ["loss/total", "loss/pair", "rewards/margins", "grad_norm", "num_tokens", "eval_loss"]


def train(folder, model, start=None, **changes):
    arguments = settings(model, folder / "policy", start, **changes)
    return train_policy(PAIRS + MORE_PAIRS, PROMPTS + MORE_PROMPTS, *arguments)


class Sharded:
    """Trainings under a launcher's file, in a folder with a cache of its own."""

    def __init__(self, kind, folder):
        self.folder = folder
        self.wrapper = {"FSDP": "FSDP", "DEEPSPEED": "DeepSpeedEngine"}[kind]
        (folder / "training.py").write_text(TRAINING)
        (folder / "cluster.yaml").write_text(launcher_config(kind))

    def launch(self, killed_at=None, **options):
        """The exit status and the output of both processes."""
        config = self.folder / "cluster.yaml"
        given = json.dumps({"killed_at": killed_at, "train": options}, default=str)
        packages = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config,
             "--main_process_port", "0", self.folder / "training.py", self.folder, given],
            cwd=ROOT, check=False, timeout=600,
            env=os.environ | {"DVC_ROOT": str(self.folder), "PYTHONPATH": packages,
                              "DS_ACCELERATOR": "cpu"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return done.returncode, done.stdout

    def train(self, **options):
        """The log of a training to its end."""
        status, output = self.launch(**options)
        assert status == 0, output
        log = pd.read_csv(self.folder / "log.csv")
        assert (log["processes"] == 2).all()
        (kinds,) = {frozenset(each.split()) for each in log["kinds"]}
        assert any(each.startswith(self.wrapper) for each in kinds), kinds
        assert ("DTensor" in kinds) == (self.wrapper == "FSDP")
        return log


@pytest.fixture(params=KINDS)
def sharded(request, tmp_path):
    if request.param == "DEEPSPEED" and not importlib.util.find_spec("deepspeed"):
        pytest.skip("DeepSpeed isn't installed (docs/scale.md says how)")
    return Sharded(request.param, tmp_path)


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """The same trainings in one process."""

    def run(name, **options):
        folder = tmp_path / name
        monkeypatch.setenv("DVC_ROOT", str(folder))
        run = train(folder, **options)
        run.discard_checkpoints()
        return run.log

    return run


def assert_same(log, expected, policy, other):
    """The logs agree step by step, and the policies weight by weight, to rounding."""
    assert log["step"].tolist() == expected["step"].tolist()
    pd.testing.assert_frame_equal(
        log[COLUMNS], expected[COLUMNS], rtol=1e-3, atol=1e-4, check_dtype=False
    )
    one, two = weights(policy), weights(other)
    # DeepSpeed also saves the output layer of a model whose output layer is its embedding
    tied = one.keys() - two.keys()
    assert two.keys() <= one.keys()
    assert all(one[name].equal(one["model.embed_tokens.weight"]) for name in tied)
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in two)


def test_an_adapter(sharded, alone, tiny_model, tmp_path):
    expected = alone("alone", model=tiny_model)
    log = sharded.train(model=tiny_model)
    assert log["first"].unique().tolist() == [0]
    assert_same(log, expected, tmp_path / "policy", tmp_path / "alone/policy")


def test_an_adapter_with_a_start_is_killed_and_goes_on(sharded, alone, tiny_model, tmp_path):
    alone("sft", model=tiny_model, epochs=1)
    sft = tmp_path / "sft/policy"
    expected = alone("alone", model=tiny_model, start=sft)
    _, output = sharded.launch(model=tiny_model, start=sft, killed_at=5)
    assert "SIGKILL" in output, output
    assert not (tmp_path / "policy").exists()
    log = sharded.train(model=tiny_model, start=sft)
    assert log["first"].unique().tolist() == [4]
    assert_same(log, expected, tmp_path / "policy", tmp_path / "alone/policy")
    base = load_causal_lm(str(tiny_model), None, "key", torch.float32)
    load_adapter(base, tmp_path / "policy")


def test_all_weights(sharded, alone, tiny_model, tmp_path):
    expected = alone("alone", model=tiny_model, lora=None)
    log = sharded.train(model=tiny_model, lora=None)
    assert_same(log, expected, tmp_path / "policy", tmp_path / "alone/policy")
    load_causal_lm(str(tmp_path / "policy"), None, "key", torch.float32)
