"""The backend openai, against a server that plays faults and against `transformers serve`."""

import random
import time
from collections import Counter
from itertools import pairwise

import pytest
from fault_server import FAULTS, reply_to
from remote_workspace import (
    KEY,
    attempts,
    fault_server,
    make_prompts,
    new_workspace,
    serve_model,
)

from benchmarks.generation import busiest_window

pytestmark = pytest.mark.slow


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.jsonl"


def holders_of_the_key(folder):
    return [p for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_faults_cost_no_answer_and_no_second_call(tmp_path, log):
    with fault_server(log, fault=0.05, latency=0.01, hang=3, retry_after=1) as url:
        w = new_workspace(tmp_path, url, 200, timeout_seconds=1.5, requests_per_minute=3000,
                      concurrency=32)  # fmt: skip
        output = w.run()
        assert "200 requests, 0 cached, 200 calls to make" in output
        again = w.run()
        assert "200 requests, 200 cached, 0 calls to make" in again
    tries = attempts(log)
    got = Counter(attempt["got"] for attempt in tries)
    # a time-out is `gone` for the server, because its client has left
    assert all(got[fault] > 0 for fault in FAULTS if fault != "timeout"), got
    answered = Counter(attempt["prompt"] for attempt in tries if attempt["got"] == "answer")
    assert len(answered) == 200
    assert set(answered.values()) == {1}
    for prompt, row in zip(make_prompts(200), w.responses(), strict=True):
        assert (row["id"], row["raw"]) == (prompt.id, reply_to(prompt.text))
        assert row["contract"] == "valid"
        assert row["served_model"] == "some-model-0613"
        assert row["system_fingerprint"] == "fp_test"
        assert row["finish_reason"] == "stop"
        assert row["seconds"] > 0
    metrics = w.metrics()
    assert metrics["cache_hits"] == metrics["requests"] == 200
    assert metrics["calls"] == 0
    assert metrics["cost_usd"] == pytest.approx(
        (metrics["prompt_tokens"] + 2 * metrics["completion_tokens"]) / 1e6
    )
    # 3000 a minute are 50 a second and 1; the server's clock may be late for a few
    assert busiest_window([attempt["came"] for attempt in tries], 1) <= 56
    # the server echoed the key in its errors
    assert all(attempt["authorization"] > len(KEY) for attempt in tries)
    assert holders_of_the_key(tmp_path) == []
    assert KEY not in output + again


def test_retry_after_is_respected(tmp_path, log):
    with fault_server(log, fault=0.1, seed=3, retry_after=2, hang=0) as url:
        new_workspace(tmp_path, url, 16, attempts=50).run()
    by_prompt = {}
    for attempt in sorted(attempts(log), key=lambda attempt: attempt["came"]):
        by_prompt.setdefault(attempt["prompt"], []).append(attempt)
    waits = [
        later["came"] - earlier["ended"]
        for tries in by_prompt.values()
        for earlier, later in pairwise(tries)
        if earlier["got"] == "rate_limit"
    ]
    assert waits
    assert min(waits) >= 2
    # nor does another connection ask meanwhile; what was on its way may still come in
    tries = attempts(log)
    for refused in (attempt for attempt in tries if attempt["got"] == "rate_limit"):
        until = refused["ended"] + 2
        assert not [a for a in tries if refused["ended"] + 0.3 < a["came"] < until]


def test_killed_and_resumed(tmp_path, log):
    """No cached answer is asked again, however often the run is killed."""
    with fault_server(log, latency=0.05) as url:
        w = new_workspace(tmp_path, url, 150, concurrency=4)
        for _ in range(2):
            cached, begin = w.cached(), time.time()
            until = len(cached) + random.randrange(10, 50)
            process = w.start()
            while len(w.cached()) < until:
                time.sleep(0.01)
            process.kill()
            process.wait()
            assert not [a for a in attempts(log) if a["came"] > begin and a["prompt"] in cached]
        cached, begin = w.cached(), time.time()
        output = w.run()
        assert f"150 requests, {len(cached)} cached, {150 - len(cached)} calls to make" in output
        again = [a for a in attempts(log) if a["came"] > begin]
    assert len(again) == 150 - len(cached)
    assert not {a["prompt"] for a in again} & cached
    assert len(w.cached()) == len(w.responses()) == 150


def test_only_what_changes_the_request_is_asked_again(tmp_path, log):
    """More prompts, other settings, a comment, another price: how many calls each costs."""
    with fault_server(log) as url, fault_server(log) as other:
        w = new_workspace(tmp_path, url, 10)

        def calls(**changes):
            w.params["models"]["remote"] |= changes
            w.write()
            w.run()
            return w.metrics()["calls"]

        assert calls() == 10
        w.set_prompts(14)
        assert calls() == 4
        assert calls(concurrency=2, requests_per_minute=6000, attempts=3, timeout_seconds=9.0) == 0
        w.prices[0]["input"] = 3.0
        assert calls() == 0
        assert w.metrics()["cost_usd"] > 0
        assert calls(temperature=0.1) == 14
        assert calls(samples=2) == 14
        assert [response["sample"] for response in w.responses()] == [0, 1] * 14
        assert calls(samples=1) == 0
        w.prices.append(w.prices[0] | {"base_url": other})
        assert calls(base_url=other) == 14
        assert calls(base_url=url) == 0
        # without the persona, in which alone the prompts differ, there is one request
        assert calls(persona=False) == 1
        w.params["sample"]["max_words"] = 50
        assert calls() == 1


@pytest.mark.parametrize("broken", ["everything", "the address"])
def test_a_broken_server_ends_the_run_early(tmp_path, log, broken):
    with fault_server(log, fault=0.5, hang=0, seed=1) as url:
        w = new_workspace(tmp_path, url, 200, attempts=1, concurrency=4)
        if broken == "the address":
            w.params["models"]["remote"]["base_url"] = "http://127.0.0.1:9/v1"
            w.prices[0]["base_url"] = "http://127.0.0.1:9/v1"
            w.write()
            message = "because no connection (All connection attempts failed)"
        else:
            message = "models.remote: 10 requests in a row failed, the last one because the server"
        output = w.run(fails=True)
    assert "error: models.remote: 10 requests in a row failed" in output
    assert message in output
    assert "answers received are kept." in output
    assert len(attempts(log)) < 50


def test_requests_without_an_answer_are_reported(tmp_path, log):
    with fault_server(log, fault=0.02, hang=0, seed=1) as url:
        w = new_workspace(tmp_path, url, 100, attempts=1)
        output = w.run(fails=True)
        cached = len(w.cached())
        assert 80 < cached < 100
        assert f"error: models.remote: {100 - cached} of 100 requests stay without an" in output
        assert f"the {cached} answers received are kept" in output
        assert not (w.folder / "artifacts/responses/remote.jsonl").exists()
        w.params["models"]["remote"]["attempts"] = 20
        w.write()
        w.run()
    assert w.metrics()["calls"] == 100 - cached


def test_two_processes_pay_once(tmp_path, log):
    with fault_server(log, latency=0.02) as url:
        w = new_workspace(tmp_path, url, 40, concurrency=2)
        processes = [w.start(), w.start()]
        for process in processes:
            process.communicate()
            assert process.returncode == 0
    assert len(attempts(log)) == 40
    assert len(w.responses()) == 40


def test_a_real_server(tmp_path, tiny_model):
    """`transformers serve` with a tiny model: the same text as the backend transformers gives."""
    with serve_model(str(tiny_model)) as (url, name):
        w = new_workspace(tmp_path, url, 4, model=name, temperature=0.0, seed=0, concurrency=2,
                      timeout_seconds=120.0)  # fmt: skip
        w.params["generate"] |= {"max_tokens": 12, "dtype": "float32"}
        w.write()
        w.run()
        assert w.metrics()["calls"] == 4
        assert "4 cached, 0 calls" in w.run(PERSODPO_OFFLINE="1")
    served = w.responses()
    w.params["models"]["remote"] = w.params["models"]["smollm2_greedy"] | {"model": str(tiny_model)}
    w.write()
    w.run()
    for row, local in zip(served, w.responses(), strict=True):
        assert row["raw"] == local["raw"]
        assert row["prompt_tokens"] == local["prompt_tokens"]
