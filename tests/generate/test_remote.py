"""The backend openai, against a server that plays faults and against `transformers serve`."""

import json
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from fault_server import FAULTS, reply_to
from remote_workspace import KEY, RemoteWorkspace, attempts, fault_server, make_prompts, serve_model

from benchmarks.generation import busiest_window


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.jsonl"


def workspace(tmp_path, url, n, **changes):
    folder = tmp_path / "workspace"
    folder.mkdir()
    return RemoteWorkspace(folder, url, n, **changes)


def holders_of_the_key(folder):
    return [p for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_faults_cost_no_answer_and_no_second_call(tmp_path, log):
    with fault_server(log, fault=0.05, latency=0.01, hang=3, retry_after=1) as url:
        w = workspace(tmp_path, url, 200, timeout_seconds=1.5, requests_per_minute=3000,
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
        workspace(tmp_path, url, 16, attempts=50).run()
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
    """No kept answer is asked again, however often the run is killed."""
    with fault_server(log, latency=0.05) as url:
        w = workspace(tmp_path, url, 150, concurrency=4)
        for _ in range(2):
            kept, begin = w.cached(), time.time()
            until = len(kept) + random.randrange(10, 50)
            process = w.start()
            while len(w.cached()) < until:
                time.sleep(0.01)
            process.kill()
            process.wait()
            assert not [a for a in attempts(log) if a["came"] > begin and a["prompt"] in kept]
        kept, begin = w.cached(), time.time()
        output = w.run()
        assert f"150 requests, {len(kept)} cached, {150 - len(kept)} calls to make" in output
        again = [a for a in attempts(log) if a["came"] > begin]
    assert len(again) == 150 - len(kept)
    assert not {a["prompt"] for a in again} & kept
    assert len(w.cached()) == len(w.responses()) == 150


def test_only_what_changes_the_request_is_asked_again(tmp_path, log):
    """More prompts, other settings, a comment, another price: how many calls each costs."""
    with fault_server(log) as url, fault_server(log) as other:
        w = workspace(tmp_path, url, 10)

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
        w = workspace(tmp_path, url, 200, attempts=1, concurrency=4)
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
        w = workspace(tmp_path, url, 100, attempts=1)
        output = w.run(fails=True)
        kept = len(w.cached())
        assert 80 < kept < 100
        assert f"error: models.remote: {100 - kept} of 100 requests stay without an" in output
        assert f"the {kept} answers received are kept" in output
        assert not (w.folder / "artifacts/responses/remote.jsonl").exists()
        w.params["models"]["remote"]["attempts"] = 20
        w.write()
        w.run()
    assert w.metrics()["calls"] == 100 - kept


class Scripted(BaseHTTPRequestHandler):
    """Answers each attempt with the next of the server's `script`: a status and a body."""

    def do_POST(self):
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        status, body = self.server.script[min(len(self.server.keys), len(self.server.script)) - 1]
        text = (body if isinstance(body, str) else json.dumps(body)).replace(
            "<key>", self.headers["Authorization"]
        )
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def scripted():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Scripted)
    server.keys, server.bodies = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield server
    server.shutdown()


def reply(content="hi", finish_reason="stop", **message):
    return {"choices": [{"message": {"content": content} | message,
                         "finish_reason": finish_reason}]}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, {"error": {"message": "Incorrect key: <key>"}}, "401 (Error code: 401 - Incorrect"),
        (404, {"error": {"message": "no model of this name"}}, "no model of this name"),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "429 (Error code: 429"),
        (400, {"error": {"message": "unknown field\n\nx <key>"}}, "11 prompts were refused, more "),
        (200, {"error": {"message": "insufficient credits <key>"}}, "(insufficient credits Bearer"),
        (200, {"error": {"message": "no key", "code": 401}}, "with an error in its reply (no key)"),
        (200, "<html>Log in, <key></html>", "isn't JSON"),
        (200, {"object": "error", "message": "<key>"}, "with an error in its reply (Bearer ***)"),
        (200, {"text": "<key>"}, "isn't of the chat API's form"),
        (200, reply("", "error", refusal=None), "the server's reply holds an error"),
        (200, "[" * 100_000, "isn't JSON"),
        (200, "9" * 5000, "isn't JSON"),
    ],
)  # fmt: skip
def test_what_no_further_attempt_mends(tmp_path, scripted, status, body, message):
    scripted.script = [(status, body)]
    w = workspace(tmp_path, scripted.url, 40, concurrency=1, attempts=1)
    output = w.run(fails=True)
    assert message in output
    assert output.splitlines()[-1].startswith("error: models.remote: ")
    assert KEY not in output
    ends_at_once = status in (401, 404, 429) or (status == 200 and '"error": {' in json.dumps(body))
    assert len(scripted.keys) == {True: 1, False: 11 if status == 400 else 10}[ends_at_once]
    assert holders_of_the_key(tmp_path) == []


def test_answers_are_recorded_as_what_they_are(tmp_path, scripted):
    """Also the key that a server echoes in an answer, and half a surrogate pair, are no trouble."""
    scripted.script = [
        (200, reply("cut", "length")),
        (200, reply("half", "content_filter")),
        (200, reply(None, refusal="I won't.")),
        (400, {"error": {"message": "filtered", "code": "content_filter"}}),
        (200, reply(None, "length")),
        (200, reply("your header: <key>", "tool_calls")),
        (200, json.dumps(reply("\ud83d") | {"model": "\ud800"})),
    ]
    w = workspace(tmp_path, scripted.url, 7, concurrency=1)
    w.run()
    rows = [(row["raw"], row["finish_reason"]) for row in w.responses()]
    assert rows == [("cut", "length"), ("half", "content_filter"), ("I won't.", "refusal"),
                    ("", "content_filter"), ("", "length"), ("your header: Bearer ***", "other"),
                    ("?", "stop")]  # fmt: skip
    assert [row["request_key"] is None for row in w.responses()] == [False] * 3 + [True] + [
        False
    ] * 3
    assert w.responses()[3]["error"] == "the server says 400 (Error code: 400 - filtered)"
    assert w.responses()[0]["prompt_tokens"] is None
    assert w.metrics()["finish_reasons"] == {"content_filter": 2, "length": 2, "other": 1,
                                             "refusal": 1, "stop": 1}  # fmt: skip
    assert len(w.cached()) == 6  # an error, such as a filtered prompt, is not kept
    assert holders_of_the_key(tmp_path) == []


RENAMED = {"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this "
                                "model. Use 'max_completion_tokens' instead.",
                     "code": "unsupported_parameter"}}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, RENAMED),
        (200, RENAMED),
        (422, {"detail": [{"loc": ["body", "max_tokens"], "type": "extra_forbidden",
                           "msg": "Extra inputs are not permitted"}]}),
        (400, {"detail": "Unknown field max_tokens"}),
        (400, {"error": "max_tokens unsupported"}),
    ],
)  # fmt: skip
def test_the_limit_on_tokens_has_the_name_that_the_server_wants(tmp_path, scripted, status, body):
    """Asked once more by the other name, which is remembered; it is no fault of the request."""
    scripted.script = [(status, body), (200, reply("a"))]
    w = workspace(tmp_path, scripted.url, 3, concurrency=1, attempts=1)
    w.run()
    names = [sorted(body.keys() & {"max_tokens", "max_completion_tokens"})
             for body in scripted.bodies]  # fmt: skip
    assert names == [["max_tokens"]] + [["max_completion_tokens"]] * 3
    assert [row["raw"] for row in w.responses()] == ["a"] * 3
    assert w.metrics()["faults"] == {}


@pytest.mark.parametrize(
    "message",
    [
        "'max_tokens' or 'max_completion_tokens' is too large: 110",
        "max_tokens: 110 is not supported, must be <= 50",
        "Unsupported value: max_tokens must be at least 16",
        "max_tokens=110 not permitted on the free tier",
    ],
)
def test_a_server_that_only_finds_the_limit_too_high_isnt_asked_by_another_name(
    tmp_path, scripted, message
):
    too_large = {"error": {"message": message}}
    scripted.script = [(400, too_large)]
    w = workspace(tmp_path, scripted.url, 2, concurrency=1)
    assert "the server refuses all 2 prompts, so a setting must be at fault" in w.run(fails=True)
    assert [("max_tokens" in body) for body in scripted.bodies] == [True, True]


@pytest.mark.parametrize("max_refused", [1, 0])
def test_a_prompt_that_is_refused_for_good_is_a_failed_response(tmp_path, scripted, max_refused):
    inspected = {"error": {"message": "Input may be bad", "code": "data_inspection_failed"}}
    scripted.script = [(200, reply("a")), (400, inspected), (200, reply("b"))]
    w = workspace(tmp_path, scripted.url, 3, concurrency=1)
    w.params["generate"]["max_refused"] = max_refused
    w.write()
    output = w.run(fails=max_refused == 0)
    assert (
        "remote, prompt 'p1': refused, the server says 400 (Error code: 400 - Input may" in output
    )
    if max_refused == 0:
        assert "1 prompts were refused, more than generate.max_refused = 0" in output
        assert len(w.cached()) == 1
        return
    row = w.responses()[1]
    assert (row["contract"], row["finish_reason"], row["raw"]) == ("none", "refused", "")
    assert "Input may be bad" in row["error"]
    assert row["request_key"] is None
    assert [r["raw"] for r in w.responses()] == ["a", "", "b"]
    # nothing that was answered is asked again, and the refused one is
    scripted.script = [(200, reply("late"))]
    assert "3 requests, 2 cached, 1 calls to make" in w.run()


def test_an_empty_account_is_no_refused_prompt(tmp_path, scripted):
    """Or DVC would take the stage for done, with prompts that nobody ever asked."""
    poor = {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}}
    scripted.script = [(200, reply("a")), (400, poor)]
    w = workspace(tmp_path, scripted.url, 4, concurrency=1)
    assert "Your credit balance is too low" in w.run(fails=True)
    assert len(scripted.keys) == 2


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "requires moderation and your input was flagged"), (500, "maximum context length is 9")],
)
def test_a_prompt_that_is_refused_by_another_status(tmp_path, scripted, status, message):
    scripted.script = [(200, reply("a")), (status, {"error": {"message": message}}),
                       (200, reply("b"))]  # fmt: skip
    w = workspace(tmp_path, scripted.url, 3, concurrency=1, attempts=1)
    w.run()
    assert [row["finish_reason"] for row in w.responses()] == ["stop", "refused", "stop"]
    assert message in w.responses()[1]["error"]


def test_what_was_kept_as_whole_counts_as_cut_if_its_tokens_were_used_up(tmp_path, scripted):
    """An answer that was paid before servers' reasons were looked at."""
    scripted.script = [(200, reply("a") | {"usage": {"completion_tokens": 109}})]
    w = workspace(tmp_path, scripted.url, 1)
    w.run()
    (file,) = (w.folder / ".cache/answers").glob("*.jsonl")
    file.write_text(file.read_text().replace('"completion_tokens":109', '"completion_tokens":110'))
    assert "1 cached" in w.run()
    assert w.responses()[0]["finish_reason"] == "length"


def test_an_empty_reply_is_asked_again_and_not_kept(tmp_path, scripted):
    empty = reply("") | {"usage": {"completion_tokens": 0}}
    scripted.script = [(200, empty), (200, empty), (200, reply("a"))]
    w = workspace(tmp_path, scripted.url, 1, concurrency=1)
    w.run()
    assert (w.responses()[0]["raw"], len(scripted.keys)) == ("a", 3)
    assert w.metrics()["faults"] == {"empty": 2}


def test_an_address_without_v1_gets_a_hint(tmp_path, scripted):
    for status, body in ((404, {"detail": "Not Found"}), (200, "<html>Welcome</html>")):
        scripted.script = [(status, body)]
        folder = tmp_path / str(status)
        folder.mkdir()
        w = workspace(folder, scripted.url.removesuffix("/v1"), 12, concurrency=1, attempts=1)
        output = w.run(fails=True)
        assert (
            "has no /v1 at its end, which most servers want: set models.remote.base_url" in output
        )
    scripted.script = [(404, {"detail": "Not Found"})]
    (tmp_path / "with").mkdir()
    w = workspace(tmp_path / "with", scripted.url, 1)
    assert "/v1 at its end" not in w.run(fails=True)


def test_another_model_behind_the_same_name_is_told_before_answers_are_mixed(tmp_path, scripted):
    scripted.script = [(200, reply("a") | {"model": "m-0613"})]
    w = workspace(tmp_path, scripted.url, 2, concurrency=1)
    w.run()
    scripted.script = [(200, reply("b") | {"model": "m-1106"})]
    scripted.keys.clear()
    w.set_prompts(5)
    output = w.run(fails=True)
    assert "answers to 'some-model' as 'm-0613' and as 'm-1106'" in output
    assert "the 1 answers received are kept" in output
    assert len(scripted.keys) == 1
    # nor later, when both are kept
    assert "as 'm-0613' and as 'm-1106'" in w.run(fails=True)
    assert len(scripted.keys) == 1
    prune = ("persodpo", "cache", "prune", "--served-model", "m-1106")
    assert "1 entries to remove" in w.run(*prune)
    w.params["models"]["remote"]["served_model"] = "any"
    w.write()
    w.run()
    assert [row["raw"] for row in w.responses()] == ["a", "a", "b", "b", "b"]


def test_another_configuration_of_the_server_is_told(tmp_path, scripted):
    scripted.script = [(200, reply("a") | {"system_fingerprint": f"fp_{n}"}) for n in (1, 1, 2, 3)]
    w = workspace(tmp_path, scripted.url, 4, concurrency=1)
    output = w.run()
    assert "has changed" not in w.run()  # nothing is asked
    assert output.count("the server's configuration has changed between answers") == 1
    assert "(fingerprint fp_1, then fp_2)" in output


def test_thoughts_are_kept_apart_and_paid_tokens_that_went_there_are_told(tmp_path, scripted):
    thinking = reply(None, "length", reasoning_content='Maybe {"response": "No."}')
    closed = reply('{"response": "No."} or</think>\n{"response": "Yes, do."}')
    scripted.script = [(200, thinking), (200, thinking), (200, closed)]
    w = workspace(tmp_path, scripted.url, 3, concurrency=1)
    w.params["models"]["remote"] |= {"max_tokens": 40, "extra_body": {"reasoning_effort": "low"}}
    w.write()
    output = w.run()
    assert "models.remote: 2 of 3 answers are empty, because their tokens went into thoughts" in (
        output
    )
    assert (
        "raise models.remote.max_tokens, or switch thinking off by models.remote.extra_b" in output
    )
    rows = w.responses()
    assert [(r["answer"], r["raw"], r["words"]) for r in rows] == [
        (None, "", 0), (None, "", 0), ("Yes, do.", '\n{"response": "Yes, do."}', 2)]  # fmt: skip
    assert rows[0]["thoughts"] == 'Maybe {"response": "No."}'
    assert rows[2]["thoughts"] == '{"response": "No."} or</think>'
    assert {(body["max_tokens"], body["reasoning_effort"]) for body in scripted.bodies} == {
        (40, "low")
    }


def test_a_key_in_the_further_fields_never_reaches_a_file(tmp_path, scripted):
    scripted.script = [(200, reply("a"))]
    w = workspace(tmp_path, scripted.url, 1, extra_body={"user": f"me {KEY[3:]}"})
    output = w.run(fails=True, TEST_API_KEY=KEY[3:])
    assert "extra_body holds the key that stands in TEST_API_KEY" in output
    assert scripted.keys == []


def test_the_key_comes_from_the_environment(tmp_path, scripted):
    scripted.script = [(200, reply())]
    w = workspace(tmp_path, scripted.url, 1)
    assert (
        "error: params.yaml: models.remote.api_key_env is TEST_API_KEY, and no such environment"
        in (w.run(fails=True, TEST_API_KEY=""))
    )
    assert "too few for a key; set models.remote.api_key_env to null" in (
        w.run(fails=True, TEST_API_KEY="x")
    )
    assert "holds characters no key has" in w.run(fails=True, TEST_API_KEY="abcdefgh\nb")
    w.run(TEST_API_KEY=f"{KEY}\n", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert scripted.keys == [f"Bearer {KEY}"]
    w.params["models"]["remote"] |= {"api_key_env": None, "seed": 7}
    w.write()
    w.run(OPENAI_API_KEY="another-secret")
    assert "another-secret" not in scripted.keys[-1]


def test_the_end_of_a_run_ends_all_waiting(tmp_path, scripted):
    """One refused key, while other connections wait for the rate limit: no further call."""
    scripted.script = [(401, {"error": {"message": "no"}})]
    w = workspace(tmp_path, scripted.url, 40, concurrency=16, requests_per_minute=60)
    assert "the server says 401" in w.run(fails=True)
    assert len(scripted.keys) <= 2


def test_two_processes_pay_once(tmp_path, log):
    with fault_server(log, latency=0.02) as url:
        w = workspace(tmp_path, url, 40, concurrency=2)
        processes = [w.start(), w.start()]
        for process in processes:
            process.communicate()
            assert process.returncode == 0
    assert len(attempts(log)) == 40
    assert len(w.responses()) == 40


def test_a_real_server(tmp_path, tiny_model):
    """`transformers serve` with a tiny model: the same text as the backend transformers gives."""
    with serve_model(str(tiny_model)) as (url, name):
        w = workspace(tmp_path, url, 4, model=name, temperature=0.0, seed=0, concurrency=2,
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
