"""What models think aloud is told apart from what they answer, whatever is drafted in there."""

import json

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from persodpo.models.thoughts import opens_thoughts, split_thoughts
from persodpo.prompts import parse_response, render_prompt, wrap_response

CASES = ROOT.parent / "shared/cases/thoughts.jsonl"
DRAFT = wrap_response("A draft.")


def answer_of(text: str, opened: bool = False) -> str | None:
    return parse_response(split_thoughts(text, opened).answer).answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('<think>\nThe format is {"response": "..."}.\n</think>\n\n{"response": "Yes."}', "Yes."),
        (f'<think>{DRAFT} too short</think>{{"response": "Longer."}}', "Longer."),
        (f'I could say {DRAFT} but no.\n</think>\n{{"response": "Yes."}}', "Yes."),
        (f"<think>Still at {DRAFT} when the tokens ran out", None),
        ('{"response": "..."}', None),
        ('{"response": "…"}', None),
        ('{"response": "..."} {"response": "Yes."}', "Yes."),
        ('{"response": "..."} then {"response": "Cut he', "Cut he"),
        (f'<think>a</think>{DRAFT}<think>b</think>{{"response": "Last."}}', "Last."),
        ('<think>a</think>{"response": "Yes."}<think>or ' + DRAFT, "Yes."),
        (f'<thinking>{DRAFT}</thinking>{{"response": "Yes."}}', "Yes."),
        (f'[THINK]{DRAFT}[/THINK]{{"response": "Yes."}}', "Yes."),
        (f'<THINK>{DRAFT}</Think>{{"response": "Yes."}}', "Yes."),
        (f'<|channel|>analysis<|message|>{DRAFT}<|end|>assistant<|channel|>final<|message|>'
         '{"response": "Yes."}', "Yes."),
        (f'<|channel|>analysis<|message|>{DRAFT}', None),
        (f'◁think▷{DRAFT}◁/think▷{{"response": "Yes."}}', "Yes."),
        (f'<|START_THINKING|>{DRAFT}<|END_THINKING|>{{"response": "Yes."}}', "Yes."),
        (f'<seed:think>{DRAFT}</seed:think>{{"response": "Yes."}}', "Yes."),
        (f'<think time="2">{DRAFT}</think>{{"response": "Yes."}}', "Yes."),
        (f'<reflection>{DRAFT}</reflection>{{"response": "Yes."}}', "Yes."),
        # tags that a user asks about are part of the answer
        ('<think>a</think>{"response": "Use </think> there."}', "Use </think> there."),
        ('Sure:\n```json\n{"response": "I <think> so."}\n```', "I <think> so."),
        ('{"response": "Write <think> or </think> around it."}',
         "Write <think> or </think> around it."),
        ("", None),
        ("</think>", None),
        ("<think></think>", None),
    ],
)  # fmt: skip
def test_the_answer_behind_the_thoughts(text, answer):
    assert answer_of(text) == answer


def test_a_prompt_that_opened_the_thoughts():
    assert split_thoughts(DRAFT, opened=True) == ("", DRAFT)
    assert answer_of(f'{DRAFT}</think>{{"response": "Yes."}}', opened=True) == "Yes."
    assert opens_thoughts("<|im_start|>assistant\n<think>\n")
    assert not opens_thoughts("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert not opens_thoughts("user: write <think>\n<|im_start|>assistant\n")


texts = st.text(st.characters(codec="utf-8"), max_size=30)
pieces = st.lists(
    st.sampled_from(["<think>", "</think>", "{", "}", DRAFT, "a", "\n", "[THINK]"]), max_size=9
).map("".join)


@given(
    thoughts=st.one_of(texts, pieces), answer=texts.filter(lambda t: t.strip().strip(" .…").strip())
)
def test_whatever_is_thought_the_answer_is_found(thoughts, answer):
    if "think" in answer.lower():
        return
    whole = f"<think>{thoughts}</think>{wrap_response(answer)}"
    parts = split_thoughts(whole)
    assert parse_response(parts.answer) == ("valid", answer.strip())
    assert parts.thoughts == f"<think>{thoughts}</think>"


@given(st.one_of(texts, pieces), st.booleans())
def test_nothing_is_lost_and_splitting_again_changes_nothing(text, opened):
    parts = split_thoughts(text, opened)
    assert len(parts.answer) + len(parts.thoughts or "") == len(text)
    assert split_thoughts(parts.answer).answer == parts.answer


def test_the_prompts_own_placeholder_is_no_answer():
    prompt = render_prompt(["I sail."], ["Where?"], 60)
    assert parse_response(prompt) == ("none", None)
    assert parse_response(f'{prompt}\n{{"response": "Here."}}') == ("valid", "Here.")


@pytest.mark.skipif(not CASES.is_file(), reason=f"{CASES} isn't here")
def test_the_shared_cases():
    for line in CASES.read_text(encoding="utf-8").splitlines():
        case = json.loads(line)
        assert answer_of(case["content"]) == case["answer"]
