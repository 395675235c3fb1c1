"""Several processes of a stage: the same results as of one, nothing asked twice, no one left over.

The launches are real, by accelerate, with two processes on the CPU.
"""

import json
import math
import os
import subprocess
from collections import Counter

import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from judged_workspace import SCORE, judge, judged_workspace, values
from remote_workspace import RemoteWorkspace, attempts, fault_server
from warm_python import warm_python
from workspace import Workspace

from persodpo import processes
from persodpo.config import read_params
from persodpo.evaluate import EvaluationParams, evaluate_candidate
from persodpo.generate.run import generate_responses
from persodpo.models import loading
from persodpo.records import Evaluated, Prompt, Response, Score, read_rows, write_rows
from persodpo.score.run import score_responses
from persodpo.workflow.params import load_params

pytestmark = pytest.mark.slow

# without a GPU, `--num_processes 2` alone would start one process
LAUNCH = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines",
          "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0",
          "-m"]  # fmt: skip
METRICS = ["coh", "c", "ue", "p", "rouge", "golden", "use"]


@pytest.fixture(scope="module", autouse=True)
def launched_python():
    """Which Python the launcher starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHON_EXEC", warm_python())
        yield


def launch(folder, *arguments):
    """The exit status and the output of two processes, which must end before long."""
    done = subprocess.run(
        [warm_python(), "-m", *LAUNCH, *arguments], cwd=folder, timeout=120, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shares_are_disjoint_and_complete(items, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLD_SIZE", str(count))
        shares = []
        for rank in range(count):
            patch.setenv("RANK", str(rank))
            assert processes.rank() == rank
            assert processes.is_main() == (rank == 0)
            shares.append(processes.share(items))
        patch.setattr(processes, "gather", lambda part: shares)
        assert processes.join(shares[0]) == items
    assert Counter(item for share in shares for item in share) == Counter(items)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.integers()))
def test_one_process_has_everything(items):
    assert processes.count() == 1
    assert processes.is_main()
    assert processes.share(items) == processes.join(items) == processes.gather(items) == items
    assert processes.from_main(lambda: items) is items


def test_each_process_has_its_own_accelerator(monkeypatch):
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    assert loading.device() == torch.device("cuda")
    monkeypatch.setenv("WORLD_SIZE", "8")
    for local_rank, index in ((0, 0), (3, 3), (5, 1)):
        monkeypatch.setenv("LOCAL_RANK", str(local_rank))
        assert loading.device() == torch.device("cuda", index)


PROBE = '''
"""A stage that only talks."""
from persodpo import processes
from persodpo.errors import UserError
from persodpo.runner import run_stage

def main(fault):
    items = list(range(7))
    assert processes.join(processes.share(items)) == items
    assert processes.gather([processes.rank()]) == [0, 1]
    assert processes.from_main(processes.rank) == 0
    if fault == "second" and not processes.is_main():
        raise UserError("the second one refuses")
    processes.gather([])
    print(f"process {processes.rank()} is done")

if __name__ == "__main__":
    run_stage(None, main, "fault")
'''


@pytest.mark.parametrize(
    ("fault", "sentences"),
    [
        ("none", ["process 0 is done", "process 1 is done"]),
        ("second", ["error: the second one refuses"]),
    ],
)
def test_a_mistake_of_one_ends_all(tmp_path, fault, sentences):
    (tmp_path / "probe.py").write_text(PROBE)
    code, output = launch(tmp_path, "probe", fault)
    assert (code == 0) == (fault == "none"), output
    assert all(sentence in output for sentence in sentences), output
    assert ("is done" in output) == (fault == "none"), output


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_model):
    workspace = Workspace.create(tmp_path_factory.mktemp("workspace"), tiny_model)
    path = workspace.folder / "params.yaml"
    path.write_text(
        path.read_text().replace("launch: python\n", f"launch: python -m {' '.join(LAUNCH[:-1])}\n")
    )
    # also through DVC, which puts `launch` into the command
    workspace.output = workspace.run("dvc", "repro", "generate@smollm2_greedy")
    return workspace


@pytest.fixture
def alone(workspace, tmp_path, monkeypatch):
    """This process in the workspace's folder, with caches of its own."""
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return load_params()


def test_generate(workspace, alone):
    prompts = read_rows(workspace.folder / "artifacts/prompts/train.jsonl", Prompt)
    rows = read_rows(workspace.folder / "artifacts/responses/smollm2_greedy.jsonl", Response)
    metrics = json.loads(
        (workspace.folder / "artifacts/generation/smollm2_greedy.json").read_text()
    )
    expected = generate_responses(
        "smollm2_greedy", alone.models["smollm2_greedy"], prompts, alone.generate, 110
    )
    assert [without_time(row) for row in rows] == [without_time(row) for row in expected.responses]
    timed = {"seconds_per_response"}
    assert metrics.keys() == expected.metrics.keys()
    assert all(metrics[key] == expected.metrics[key] for key in metrics.keys() - timed)
    # each process kept its share, and nothing was said or asked twice
    cached_lines = [
        file.read_text().splitlines() for file in workspace.folder.glob(".cache/answers/*.jsonl")
    ]
    assert sorted(map(len, cached_lines)) == [2, 3]
    assert len({json.loads(line)["key"] for lines in cached_lines for line in lines}) == 5
    assert workspace.output.count("5 requests, 0 cached, 5 calls to make") == 1
    # one process shows its progress
    assert workspace.output.count("0%|          | 0/5 [") == 1


def test_score(workspace, alone):
    prompts = read_rows(workspace.folder / "artifacts/prompts/train.jsonl", Prompt)
    responses = generate_responses(
        "golden", alone.models["golden"], prompts, alone.generate, 110
    ).responses
    write_rows(workspace.folder / "artifacts/responses/golden.jsonl", responses)
    workspace.python("-m", *LAUNCH, "stages.score", "golden")
    rows = read_rows(workspace.folder / "artifacts/scores/golden.jsonl", Score)
    assert_same_scores(rows, score_responses(prompts, responses, alone.scorers, 2048))


def test_evaluate(workspace, alone):
    prompts = read_rows(workspace.folder / "artifacts/prompts/valid.jsonl", Prompt)
    workspace.python("-m", *LAUNCH, "stages.evaluate", "base")
    rows = read_rows(workspace.folder / "artifacts/evaluations/base.jsonl", Evaluated)
    params = read_params(EvaluationParams, workspace.folder / "params.yaml")
    expected = evaluate_candidate("base", workspace.folder, prompts, params)
    assert [without_time(row.response) for row in rows] == [
        without_time(row.response) for row in expected
    ]
    assert_same_scores([row.score for row in rows], [row.score for row in expected])


def test_a_missing_model_ends_both(workspace):
    path = workspace.folder / "params.yaml"
    text = path.read_text()
    model = load_params(path).models["smollm2_greedy"].model
    path.write_text(text.replace(model, "/no/such/model"))
    code, output = launch(workspace.folder, "stages.generate", "smollm2_greedy")
    path.write_text(text)
    assert code != 0
    assert "error: params.yaml: models.smollm2_greedy.model is '/no/such/model'" in output


def test_a_server_is_asked_by_one_process(tmp_path):
    log, folder = tmp_path / "log.jsonl", tmp_path / "workspace"
    folder.mkdir()
    with fault_server(log) as url:
        w = RemoteWorkspace(folder, url, 20)
        output = w.run(*LAUNCH, "stages.generate", "remote")
    assert output.count("20 requests, 0 cached, 20 calls to make") == 1
    assert set(Counter(attempt["prompt"] for attempt in attempts(log)).values()) == {1}
    assert len(attempts(log)) == len(w.responses()) == w.metrics()["calls"] == 20
    assert w.metrics()["spent_usd"] == pytest.approx(w.metrics()["cost_usd"])


def test_judges_behind_a_server_and_on_this_machine(tmp_path, tiny_model):
    """One process asks the server, each asks its own copy of a model, and both know all."""
    log = tmp_path / "log.jsonl"
    with fault_server(log) as url:
        w = judged_workspace(tmp_path, url, 6)
        w.params["models"]["smollm2_greedy"] |= {"model": str(tiny_model), "max_tokens": 4}
        w.params["scorers"]["local"] = judge("grade", "smollm2_greedy")
        w.write()
        output = w.run(*LAUNCH, *SCORE)
    assert set(Counter(attempt["prompt"] for attempt in attempts(log)).values()) == {1}
    assert len(attempts(log)) == 3 * 6
    assert output.count("smollm2_greedy: 6 requests, 0 cached, 6 calls to make") == 1
    providers = [
        Counter(json.loads(line)["request"]["provider"] for line in file.read_text().splitlines())
        for file in w.folder.glob(".cache/answers/*.jsonl")
    ]
    kept = sum(providers, Counter())
    assert kept == {"openai": 18, "transformers": 6}
    # each process keeps its own share of what the local model says
    assert sorted(each["transformers"] for each in providers if each["transformers"]) == [3, 3]
    together = values(w)
    assert all(row["grade"] for row in together)
    w.run(*SCORE)
    assert values(w) == together


def without_time(response: Response) -> Response:
    return response.model_copy(update={"seconds": None, "batch_size": None})


def assert_same_scores(rows, expected):
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert (row.id, row.model, row.answer) == (other.id, other.model, other.answer)
        assert list(row.values) == list(other.values) == METRICS
        for key, value in row.values.items():
            assert math.isclose(value, other.values[key], abs_tol=1e-5)
