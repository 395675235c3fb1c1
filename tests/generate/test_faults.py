"""Whatever a server replies is an answer or a fault, and Retry-After is read in both its forms."""

import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.generate.call import limit_name_of
from persodpo.generate.faults import CallError, from_status, read_retry_after
from persodpo.generate.reply import read_answer

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "refusal",
                         "finish_reason", "model", "system_fingerprint"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@given(json_values)
def test_whatever_a_server_replies_is_an_answer_or_a_fault(value):
    try:
        answer = read_answer(value, 0.1, 20, None)
    except CallError as error:
        assert error.transient
    else:
        answer.model_dump_json().encode("utf-8")


@pytest.mark.parametrize(
    ("text", "fatal"),
    [
        ("API key not valid. Please pass a valid API key.", True),
        ("Incorrect API key provided: x***y", True),
        ("API_KEY_INVALID", True),
        ("invalid token 'max_tokens'", False),
    ],
)
def test_some_servers_refuse_a_key_with_status_400(text, fatal):
    assert from_status(400, "", text).fatal == fatal


@pytest.mark.parametrize(
    ("value", "expected"),
    [("3", 3), ("0.5", 0.5), ("-1", 0), ("soon", 0), ("", 0), (None, 0),
     ("Mon, 01 Jan 2001 00:00:00 GMT", 0), ("nan", 0), ("inf", float("inf")),
     ("Mon, 01 Jan 2024 00:00:00 +99999999999999", 0)],
)  # fmt: skip
def test_retry_after_as_a_number_or_a_past_date(value, expected):
    assert read_retry_after({} if value is None else {"retry-after": value}) == expected


def test_retry_after_as_a_date():
    date = email.utils.formatdate(time.time() + 30, usegmt=True)
    assert 28 < read_retry_after({"retry-after": date}) <= 30


@given(st.text())
def test_no_retry_after_is_trouble(value):
    assert read_retry_after({"retry-after": value}) >= 0


def test_openais_own_server_is_asked_by_the_newer_name_at_once():
    assert limit_name_of("https://api.openai.com/v1") == "max_completion_tokens"
    for url in ("http://localhost:8000/v1", "https://api.openai.com.example.org/v1"):
        assert limit_name_of(url) == "max_tokens"
