"""What servers send beside an answer's text, or in its place, never costs the text."""

import json

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from persodpo.generate.faults import CallError
from persodpo.generate.reply import read_answer

CASES = ROOT.parent / "shared/cases"
TEXT = '{"response": "Yes."}'


def reply(content=TEXT, finish_reason="stop", usage=None, message=(), **fields):
    reply_message = {"role": "assistant", "content": content} | dict(message)
    return {"choices": [{"message": reply_message, "finish_reason": finish_reason}],
            "usage": usage or {"prompt_tokens": 9, "completion_tokens": 5}, **fields}  # fmt: skip


def read(value):
    return read_answer(value, 0.5, 20, "sk-secret")


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        [{"type": "text", "text": TEXT}],
        [{"type": "output_text", "text": TEXT[:5]}, {"type": "text", "text": TEXT[5:]}],
        [TEXT],
        {"type": "text", "text": TEXT},
        [{"type": "text", "text": {"value": TEXT}}],
        [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
         {"type": "text", "text": TEXT}],
        [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": TEXT}, {"type": "image"}],
    ],
)  # fmt: skip
def test_contents_in_parts(content):
    answer = read(reply(content))
    assert (answer.raw, answer.finish_reason) == (TEXT, "stop")
    thinks = isinstance(content, list) and len(content) > 1 and "type" in content[0] and (
        content[0]["type"] in ("thinking", "reasoning"))  # fmt: skip
    assert answer.thoughts == ("Hm." if thinks else None)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_thoughts_in_a_field_of_their_own(name):
    answer = read(reply(message={name: "They want {} ..."}))
    assert (answer.raw, answer.thoughts) == (TEXT, "They want {} ...")


@pytest.mark.parametrize(
    "error", [{"code": 0, "message": ""}, {"message": None, "code": None}, {"message": "success"}]
)
def test_an_error_field_beside_an_answer_costs_nothing(error):
    assert read(reply(error=error)).raw == TEXT


@pytest.mark.parametrize(
    ("value", "kind", "transient"),
    [
        # vLLM, SGLang and DeepSeek, when they stop in the middle
        (reply("Half a", finish_reason="abort"), "server_error", True),
        (reply("Half a", finish_reason="insufficient_system_resource"), "server_error", True),
        # Gemini, where it blocks the prompt or the answer
        ({"choices": None, "usage": {}}, "empty", True),
        ({"choices": [{"message": None, "finish_reason": "PROHIBITED_CONTENT"}]}, "content_filter",
         False),
    ],
)  # fmt: skip
def test_what_is_no_answer(value, kind, transient):
    with pytest.raises(CallError) as caught:
        read(value)
    assert (caught.value.kind, caught.value.transient) == (kind, transient)


def test_a_blocked_answer_is_none_that_ended_by_itself():
    assert read(reply("", finish_reason="RECITATION")).finish_reason == "content_filter"


def test_thoughts_that_only_the_total_counts():
    usage = {"prompt_tokens": 10, "completion_tokens": 15, "total_tokens": 53}
    assert read(reply(usage=usage)).completion_tokens == 43
    assert read(reply(usage=usage | {"total_tokens": 25})).completion_tokens == 15
    assert read(reply(usage=usage | {"total_tokens": None})).completion_tokens == 15
    assert read(reply("", usage={"prompt_tokens": 21, "total_tokens": 81})).completion_tokens == 60


def test_a_reply_beyond_reason():
    nested = "x"
    for _ in range(3000):
        nested = [nested]
    with pytest.raises(CallError, match="nested too deeply"):
        read(reply(nested))


odd = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2),
                            st.dictionaries(st.text(max_size=5), inner, max_size=2)),
    max_leaves=4,
)  # fmt: skip


@given(usage=odd, model=odd, fingerprint=odd, created=odd, reason=odd, refusal=odd)
def test_odd_side_fields_never_cost_the_text(usage, model, fingerprint, created, reason, refusal):
    value = reply(finish_reason=reason, model=model, system_fingerprint=fingerprint,
                  created=created, message={"refusal": refusal})  # fmt: skip
    value["usage"] = usage
    if reason == "error":
        return
    answer = read(value)
    assert answer.raw == TEXT or answer.finish_reason == "refusal"
    answer.model_dump_json().encode()


@given(odd)
def test_whatever_a_server_sends_is_an_answer_or_a_fault(value):
    for whole in (value, {"choices": value}, {"choices": [value]},
                  {"choices": [{"message": value}]}, {"error": value, "choices": []}):  # fmt: skip
        try:
            read(whole)
        except CallError as failure:
            assert "\n" not in str(failure)


@pytest.mark.parametrize(
    ("tokens", "reason", "expected"),
    [
        (20, "stop", "length"),
        (20, "max_tokens", "length"),
        (20, None, "length"),
        ("20", "STOP", "length"),
        (20.0, "eos", "length"),
        (25, "stop", "length"),
        (19, "stop", "stop"),
        (19, "MAX_TOKENS", "length"),
        (19, "end_turn", "stop"),
        (19, None, "other"),
        (20, "content_filter", "content_filter"),
        (None, "length", "length"),
    ],
)
def test_an_answer_that_used_up_its_tokens_is_cut(tokens, reason, expected):
    answer = read(reply(finish_reason=reason, usage={"completion_tokens": tokens, "x": 1}))
    assert answer.finish_reason == expected


@pytest.mark.parametrize(
    ("error", "kind", "is_transient", "is_fatal"),
    [
        ({"message": "insufficient credits"}, "rate_limit", False, True),
        ({"message": "Insufficient Balance", "code": "x"}, "rate_limit", False, True),
        ({"message": "Payment Required", "code": 402}, "rate_limit", False, True),
        ({"message": "slow down", "code": 429}, "rate_limit", True, False),
        ({"message": "Invalid API key", "code": "invalid_api_key"}, "refused", False, True),
        ({"message": "no access", "code": 403}, "refused", False, True),
        ({"message": "input is unsafe", "code": "data_inspection_failed"}, "refused", False, False),
        ({"message": "maximum context length is 99", "code": 400}, "refused", False, False),
        ({"message": "overloaded"}, "server_error", True, False),
        ({"message": "flagged", "code": 403}, "refused", False, False),
        ({"message": "bad", "code": "400"}, "refused", False, False),
        ({"message": "x", "code": "e1", "type": "data_inspection_failed"}, "refused", False, False),
        ({"message": "Your credit balance is too low", "code": 400}, "rate_limit", False, True),
        ({"message": "rate limit, no tokens left", "code": 429}, "rate_limit", True, False),
        ({"message": "no permission is required, server busy"}, "server_error", True, False),
        ("model is loading", "server_error", True, False),
        (["odd"], "server_error", True, False),
    ],
)  # fmt: skip
def test_an_error_in_a_reply_of_status_200(error, kind, is_transient, is_fatal):
    for value in ({"error": error}, {"choices": [{"error": error}]}):
        with pytest.raises(CallError) as caught:
            read(value)
        failure = caught.value
        assert (failure.kind, failure.transient, failure.fatal) == (kind, is_transient, is_fatal)
        reason = error["message"] if isinstance(error, dict) else str(error)
        assert f"with an error in its reply ({reason})" in str(failure)


def test_no_secret_is_in_a_servers_reason():
    with pytest.raises(CallError, match=r"wrong key \*\*\*"):
        read({"error": {"message": "wrong key sk-secret"}})
    with pytest.raises(CallError, match=r"\(out of memory\)"):
        read({"object": "error", "message": "out of memory"})


@pytest.mark.parametrize(
    ("usage", "reason"), [({"completion_tokens": 0}, "stop"), ({"x": 1}, None)]
)
def test_an_empty_reply_is_asked_again(usage, reason):
    with pytest.raises(CallError, match="is empty") as caught:
        read(reply("", reason, usage=usage))
    assert caught.value.transient


@pytest.mark.parametrize(
    ("content", "usage", "message", "reason"),
    [
        ("", {"completion_tokens": 7}, {}, "stop"),  # it wrote what isn't shown
        ("", {"completion_tokens": 0}, {}, "content_filter"),
        (None, {"completion_tokens": 20}, {}, "length"),
        ("", {"completion_tokens": 0}, {"reasoning_content": "Hm."}, "stop"),
    ],
)
def test_an_empty_answer_with_a_reason_is_kept(content, usage, message, reason):
    answer = read(reply(content, reason, usage=usage, message=message))
    assert (answer.raw, answer.finish_reason) == ("", reason)


def test_tokens_that_went_into_thoughts_are_counted():
    usage = {"completion_tokens": 20, "completion_tokens_details": {"reasoning_tokens": "20"}}
    answer = read(reply("", "length", usage=usage))
    assert (answer.reasoning_tokens, answer.finish_reason) == (20, "length")


@pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} isn't here")
@pytest.mark.parametrize("name", ["reply_parts.json", "reply_fields.json"])
def test_the_shared_cases(name):
    answer = read_answer(json.loads((CASES / name).read_text()), 0.5, 110, None)
    assert answer.raw == '{"response": "Yes, in an hour."}'
    assert (answer.prompt_tokens, answer.completion_tokens) == (100, 20)
    assert answer.system_fingerprint == ("12345" if "fields" in name else None)
