import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.prompts import object_is_closed, parse_response, render_prompt, wrap_response

answers = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
braceless = st.text(st.characters(codec="utf-8", exclude_characters="{}"))


@given(answer=answers, before=braceless, after=st.text())
def test_an_answer_is_found_in_prose(answer, before, after):
    raw = f"{before}{wrap_response(answer)}{after}"
    assert parse_response(raw) == answer.strip()
    assert object_is_closed(raw)


@given(answer=answers, indent=st.integers(0, 4), ascii_only=st.booleans())
def test_an_answer_is_found_in_a_code_fence(answer, indent, ascii_only):
    body = json.dumps({"response": answer}, indent=indent, ensure_ascii=ascii_only)
    assert parse_response(f"```json\n{body}\n```") == answer.strip()


@given(st.one_of(st.text(), st.text(alphabet='{}[]":\\ \nresponse')))
def test_parsing_never_raises(raw):
    parsed = parse_response(raw)
    assert parsed is None or (parsed == parsed.strip() != "" and object_is_closed(raw))


@given(answer=answers, data=st.data())
def test_a_cut_object_is_neither_closed_nor_an_answer(answer, data):
    whole = wrap_response(answer)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert parse_response(cut) is None
    assert not object_is_closed(cut)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "{}",
        '{"response": ""}',
        '{"response": "  "}',
        '{"response": 3}',
        '{"response": ["a"]}',
        '{"Response": "a"}',
        '{"response": "a", "mood": "b"}',
        '{"answer": {"response": "a"}}',
        '{"answer": {"response": "a"}',
        '{"answer": {"response": "a"} and so on',
        '{ "response": "He said "no" {"response": "a"}',
        "{'response': 'a'}",
        '{"response": "a',
        '{"response": "half a pair \\ud83d"}',
        '["response", "a"]',
        "[" * 100_000 + '{"response": ' * 100,
    ],
)
def test_what_is_no_answer(raw):
    assert parse_response(raw) is None


def test_the_first_object_that_keeps_the_contract_counts():
    raw = 'Use {braces}: {"a": 1} {"response": "yes"} {"response": "no"}'
    assert parse_response(raw) == "yes"


def test_a_brace_inside_an_open_answer_does_not_close_it():
    assert not object_is_closed('{"response": "an empty set {} is')
    assert object_is_closed('{"response": "an empty set {} is"}')


def test_the_prompt_holds_everything():
    text = render_prompt(["I sail.", "I am 40."], ["Where?", "There.", "When?"], 77)
    for part in ["- I sail.\n- I am 40.", "User1: Where?\nUser2: There.\nUser1: When?", " 77 words",
                 '"response"']:  # fmt: skip
        assert part in text
    without = render_prompt([], ["Where?"], 77)
    assert "ersona" not in without
    assert "User1: Where?" in without
