"""Two nodes as docs/scale.md has them: its launcher and its file, through DVC.

The nodes are two groups of processes on this machine, and ssh is a script that runs its command
here; the rest is what a cluster runs.
"""

import os
import shutil
import socket

import pandas as pd
import pytest
import torch
import yaml
from tiny_trainings import weights
from warm_python import warm_python
from workspace import change_params

from benchmarks.sharding import documented_block
from persodpo.records import Response, read_rows

pytestmark = pytest.mark.slow

SSH = """#!/bin/sh
echo "$1" >> ssh.log
shift
exec sh -c "$1"
"""


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def test_two_nodes_train_as_one_process(finished_workspace, tmp_path, monkeypatch):
    workspace = finished_workspace.copy_to(tmp_path / "workspace")
    folder = workspace.folder
    (folder / "start_all.py").write_text(documented_block("python", "machine_rank"))
    config = yaml.safe_load(documented_block("yaml", "num_machines: 2"))
    config |= {"num_processes": 2, "main_process_ip": "127.0.0.1", "main_process_port": free_port()}
    (folder / "cluster.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    warm_python()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHON_EXEC", warm_python())
    params = folder / "params.yaml"
    change_params(lambda values: values.update(launch="python start_all.py"), params)

    policy, log = folder / "artifacts/policies/persodpo", folder / "artifacts/training/persodpo.csv"
    one, one_log = weights(policy), pd.read_csv(log)
    responses = folder / "artifacts/responses/smollm2_greedy.jsonl"
    texts = [row.raw for row in read_rows(responses, Response)]
    for cache in ("answers", "reference"):
        shutil.rmtree(folder / ".cache" / cache)
    workspace.run("dvc", "repro", "--single-item", "generate@smollm2_greedy", "train@persodpo")

    assert (folder / "ssh.log").read_text().split().count("10.0.0.5") == 2
    assert [row.raw for row in read_rows(responses, Response)] == texts
    # each node has answered its share of the five prompts
    shares = [len(file.read_text().splitlines()) for file in folder.glob(".cache/answers/*.jsonl")]
    assert sorted(shares) == [2, 3]
    two, two_log = weights(policy), pd.read_csv(log)
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
    columns = ["step", "loss/total", "rewards/margins", "num_tokens"]
    pd.testing.assert_frame_equal(two_log[columns], one_log[columns], rtol=1e-3, atol=1e-5)
