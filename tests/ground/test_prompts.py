import contextlib
import json
import re
from collections import Counter

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from persodpo.prompts import parse_response, render_prompt, wrap_response

LOGS = ROOT.parent / "shared/focus_logs/responses"

# of dots alone is the prompt's own placeholder
answers = st.text(st.characters(codec="utf-8"), min_size=1).filter(
    lambda t: t.strip().strip(" .…").strip()
)
braceless = st.text(st.characters(codec="utf-8", exclude_characters="{}"))


@given(answer=answers, before=braceless, after=st.text())
def test_an_answer_is_found_in_prose(answer, before, after):
    raw = f"{before}{wrap_response(answer)}{after}"
    assert parse_response(raw) == ("valid", answer.strip())


@given(answer=answers, indent=st.integers(0, 4), ascii_only=st.booleans())
def test_an_answer_is_found_in_a_code_fence(answer, indent, ascii_only):
    body = json.dumps({"response": answer}, indent=indent, ensure_ascii=ascii_only)
    assert parse_response(f"```json\n{body}\n```") == ("valid", answer.strip())


pieces = ["{", "}", '"', '"response"', ': "', "a", "\\", "\n", ",", "."]
wild = st.one_of(
    st.text(),
    st.text(st.characters(), max_size=50),  # with halves of surrogate pairs
    st.lists(st.sampled_from(pieces)).map("".join),
)


@given(wild, st.sampled_from(["strict", "released"]))
def test_parsing_never_raises(raw, rule):
    contract, answer = parse_response(raw, rule)
    assert (answer is None) == (contract == "none")
    if contract == "valid" and rule == "strict":
        assert answer == answer.strip() != ""
    if contract == "salvaged":
        assert answer == answer.strip() != ""
        assert answer in raw
        answer.encode("utf-8")


@given(answers, st.data())
def test_a_cut_answer_is_salvaged(answer, data):
    whole = json.dumps({"response": answer}, ensure_ascii=False)
    cut = whole[: data.draw(st.integers(len('{"response": "') + 1, len(whole) - 2))]
    contract, salvaged = parse_response(cut)
    assert contract != "valid"
    assert salvaged is None or salvaged in whole


@given(answer=answers, data=st.data())
def test_a_cut_object_is_no_answer(answer, data):
    whole = wrap_response(answer)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    assert parse_response(cut).contract != "valid"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "{}",
        '{"response": ""}',
        '{"response": "  "}',
        '{"response": "\\u00a0"}',
        '{"response": " \u3000 ... "}',
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
    assert parse_response(raw).contract != "valid"


@pytest.mark.parametrize(
    ("raw", "strict", "released"),
    [
        ('{"response": "a", "mood": "b"}', ("salvaged", "a"), ("valid", "a")),
        ('{"response": ["a"]}', ("none", None), ("valid", "['a']")),
        ('{"response": ""}', ("none", None), ("valid", "")),
        ('{"response": "a {b} c"}', ("valid", "a {b} c"), ("salvaged", "a {b} c")),
        (
            '{"response": "He said "no"."}',
            ("salvaged", 'He said "no"'),
            ("salvaged", 'He said "no"'),
        ),
        ('{"response": "cut off...', ("salvaged", "cut off"), ("salvaged", "cut off")),
        ('{"response" : "a" , "b": 1} {', ("salvaged", "a"), ("valid", "a")),
        ('{"user": "x"} {"response": "y"}', ("valid", "y"), ("valid", "y")),
        ('{no} {"response": "y", "z": 1}', ("salvaged", "y"), ("valid", "y")),
        ('{"response": "..."}', ("none", None), ("valid", "...")),
        ("plain words", ("none", None), ("none", None)),
    ],
)
def test_where_the_rules_differ(raw, strict, released):
    assert parse_response(raw, "strict") == strict
    assert parse_response(raw, "released") == released


@pytest.mark.parametrize("raw", ["{" * 200_000, '{"' * 100_000, '"response": "' + '" ' * 50_000])
def test_a_long_answer_ends_the_parser_soon(raw):
    for rule in ("strict", "released"):
        assert parse_response(raw, rule).contract != "valid"


@pytest.mark.skipif(not LOGS.is_dir(), reason=f"{LOGS}: the published responses aren't here")
def test_the_published_responses():
    """Counts of the released rule as the paper's code gives them, and where ours differs."""
    counts = Counter()
    for file in LOGS.glob("*.csv"):
        for raw in pd.read_csv(file, dtype=str, keep_default_na=False)["gen_response"]:
            counts["released", parse_response(raw, "released").contract] += 1
            counts["strict", parse_response(raw).contract] += 1
    assert [counts["released", k] for k in ("valid", "salvaged", "none")] == [7363, 2984, 153]
    assert [counts["strict", k] for k in ("valid", "salvaged", "none")] == [7364, 2983, 153]


VALID_LOGS = LOGS.parent / "valid_responses"


@pytest.mark.skipif(not VALID_LOGS.is_dir(), reason=f"{VALID_LOGS}: no published responses here")
@pytest.mark.parametrize(
    ("name", "failed"), [("Qwen2-5B-Instruct-length_prior", 148), ("Qwen2-7B-benchmark", 627)]
)
def test_the_failure_ratio_that_the_authors_state(name, failed):
    """Of the files of whose very name they state one; the first has 113 with two objects."""
    raws = pd.read_csv(VALID_LOGS / f"{name}.csv", dtype=str, keep_default_na=False)["gen_response"]
    contracts = [parse_response(raw, "released").contract for raw in raws]
    assert sum(contract != "valid" for contract in contracts) == failed


blocks = st.lists(
    st.sampled_from(
        ["{", "}", '{"user": "x"}', '{"response": "a"}', '{"response": 3, "b": {}}', "{no}", "\n",
         '"response": "', '{\n"response":\n"c"\n}', "text"]),
    max_size=8,
).map("".join)  # fmt: skip


@given(st.one_of(blocks, wild))
def test_the_released_rule_looks_at_every_block(raw):
    """Against a plain reading of the rule, which takes quadratic time."""
    expected = None
    for block in re.findall(r"\{.*?\}", raw, re.DOTALL):
        with contextlib.suppress(ValueError):
            found = json.loads(block)
            if expected is None and "response" in found:
                expected = str(found["response"]).strip()
    contract, answer = parse_response(raw, "released")
    if expected is not None and expected.isprintable():
        assert (contract, answer) == ("valid", expected)
    if expected is None:
        assert contract != "valid"


def test_the_first_object_that_keeps_the_contract_counts():
    raw = 'Use {braces}: {"a": 1} {"response": "yes"} {"response": "no"}'
    assert parse_response(raw) == ("valid", "yes")


def test_a_brace_inside_an_open_answer_does_not_close_it():
    assert parse_response('{"response": "an empty set {} is').contract == "salvaged"
    assert parse_response('{"response": "an empty set {} is"}').contract == "valid"


def test_the_prompt_holds_everything():
    text = render_prompt(["I sail.", "I am 40."], ["Where?", "There.", "When?"], 77)
    for part in ["- I sail.\n- I am 40.", "User1: Where?\nUser2: There.\nUser1: When?", " 77 words",
                 '"response"']:  # fmt: skip
        assert part in text
    without = render_prompt([], ["Where?"], 77)
    assert "ersona" not in without
    assert "User1: Where?" in without
