"""The backend openai: what a server replies, scripted, and what becomes of it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from remote_workspace import (
    KEY,
    new_workspace,
)

pytestmark = pytest.mark.slow


def holders_of_the_key(folder):
    return [p for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


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
        (200, reply("", "error", refusal=None), "the server has broken the answer off (error)"),
        (200, "[" * 100_000, "isn't JSON"),
        (200, "9" * 5000, "isn't JSON"),
    ],
)  # fmt: skip
def test_what_no_further_attempt_mends(tmp_path, scripted, status, body, message):
    scripted.script = [(status, body)]
    w = new_workspace(tmp_path, scripted.url, 40, concurrency=1, attempts=1)
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
    w = new_workspace(tmp_path, scripted.url, 7, concurrency=1)
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
    assert w.metrics()["cost_usd"] is None  # of tokens that nobody counted
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
    w = new_workspace(tmp_path, scripted.url, 3, concurrency=1, attempts=1)
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
    w = new_workspace(tmp_path, scripted.url, 2, concurrency=1)
    assert "the server refuses all 2 prompts, so a setting must be at fault" in w.run(fails=True)
    assert [("max_tokens" in body) for body in scripted.bodies] == [True, True]


def test_a_prompt_to_which_nothing_is_ever_said_is_a_failed_response(tmp_path, scripted):
    empty = (200, {"choices": None, "usage": {"prompt_tokens": 9}})
    scripted.script = [(200, reply("a")), empty, empty, (200, reply("b"))]
    w = new_workspace(tmp_path, scripted.url, 3, concurrency=1, attempts=2)
    w.run()
    assert [row["raw"] for row in w.responses()] == ["a", "", "b"]
    assert w.responses()[1]["error"] == "the server's reply has no choices"
    assert w.metrics()["faults"] == {"empty": 2}


@pytest.mark.parametrize("max_refused", [1, 0])
def test_a_prompt_that_is_refused_for_good_is_a_failed_response(tmp_path, scripted, max_refused):
    inspected = {"error": {"message": "Input may be bad", "code": "data_inspection_failed"}}
    scripted.script = [(200, reply("a")), (400, inspected), (200, reply("b"))]
    w = new_workspace(tmp_path, scripted.url, 3, concurrency=1)
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
    w = new_workspace(tmp_path, scripted.url, 4, concurrency=1)
    assert "Your credit balance is too low" in w.run(fails=True)
    assert len(scripted.keys) == 2


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "requires moderation and your input was flagged"), (500, "maximum context length is 9")],
)
def test_a_prompt_that_is_refused_by_another_status(tmp_path, scripted, status, message):
    scripted.script = [(200, reply("a")), (status, {"error": {"message": message}}),
                       (200, reply("b"))]  # fmt: skip
    w = new_workspace(tmp_path, scripted.url, 3, concurrency=1, attempts=1)
    w.run()
    assert [row["finish_reason"] for row in w.responses()] == ["stop", "refused", "stop"]
    assert message in w.responses()[1]["error"]


def test_what_was_cached_as_whole_counts_as_cut_if_its_tokens_were_used_up(tmp_path, scripted):
    """An answer that was paid before servers' reasons were looked at."""
    scripted.script = [(200, reply("a") | {"usage": {"completion_tokens": 109}})]
    w = new_workspace(tmp_path, scripted.url, 1)
    w.run()
    (file,) = (w.folder / ".cache/answers").glob("*.jsonl")
    file.write_text(file.read_text().replace('"completion_tokens":109', '"completion_tokens":110'))
    assert "1 cached" in w.run()
    assert w.responses()[0]["finish_reason"] == "length"


def test_an_empty_reply_is_asked_again_and_not_kept(tmp_path, scripted):
    empty = reply("") | {"usage": {"completion_tokens": 0}}
    scripted.script = [(200, empty), (200, empty), (200, reply("a"))]
    w = new_workspace(tmp_path, scripted.url, 1, concurrency=1)
    w.run()
    assert (w.responses()[0]["raw"], len(scripted.keys)) == ("a", 3)
    assert w.metrics()["faults"] == {"empty": 2}


def test_an_address_without_v1_gets_a_hint(tmp_path, scripted):
    for status, body in ((404, {"detail": "Not Found"}), (200, "<html>Welcome</html>")):
        scripted.script = [(status, body)]
        folder = tmp_path / str(status)
        folder.mkdir()
        w = new_workspace(folder, scripted.url.removesuffix("/v1"), 12, concurrency=1, attempts=1)
        output = w.run(fails=True)
        assert (
            "has no /v1 at its end, which most servers want: set models.remote.base_url" in output
        )
    scripted.script = [(404, {"detail": "Not Found"})]
    (tmp_path / "with").mkdir()
    w = new_workspace(tmp_path / "with", scripted.url, 1)
    assert "/v1 at its end" not in w.run(fails=True)


def test_another_model_behind_the_same_name_is_reported_before_answers_are_mixed(
    tmp_path, scripted
):
    scripted.script = [(200, reply("a") | {"model": "m-0613"})]
    w = new_workspace(tmp_path, scripted.url, 2, concurrency=1)
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


def test_another_configuration_of_the_server_is_reported(tmp_path, scripted):
    scripted.script = [(200, reply("a") | {"system_fingerprint": f"fp_{n}"}) for n in (1, 1, 2, 3)]
    w = new_workspace(tmp_path, scripted.url, 4, concurrency=1)
    output = w.run()
    assert "has changed" not in w.run()  # nothing is asked
    assert output.count("the server's configuration has changed between answers") == 1
    assert "(fingerprint fp_1, then fp_2)" in output


def test_thoughts_are_kept_apart_and_paid_tokens_that_went_there_are_reported(tmp_path, scripted):
    thinking = reply(None, "length", reasoning_content='Maybe {"response": "No."}')
    closed = reply('{"response": "No."} or</think>\n{"response": "Yes, do."}')
    scripted.script = [(200, thinking), (200, thinking), (200, closed)]
    w = new_workspace(tmp_path, scripted.url, 3, concurrency=1)
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
    w = new_workspace(tmp_path, scripted.url, 1, extra_body={"user": f"me {KEY[3:]}"})
    output = w.run(fails=True, TEST_API_KEY=KEY[3:])
    assert "extra_body holds the key that stands in TEST_API_KEY" in output
    assert scripted.keys == []


def test_the_key_comes_from_the_environment(tmp_path, scripted):
    scripted.script = [(200, reply())]
    w = new_workspace(tmp_path, scripted.url, 1)
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
    w = new_workspace(tmp_path, scripted.url, 40, concurrency=16, requests_per_minute=60)
    assert "the server says 401" in w.run(fails=True)
    assert len(scripted.keys) <= 2
