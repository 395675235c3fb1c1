"""The judge by a chat model: what it is asked, and how its replies are read."""

import json
import re

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scored import prompt, response

from persodpo.errors import UserError
from persodpo.score.judge import Judge, fill, read_better, read_grade, read_rubric

GRADE = {"kind": "judge", "model": "m", "rubric": str(ROOT / "data/rubrics/persona_grade.md"),
         "mode": "grade", "low": 1, "high": 5}  # fmt: skip
PAIRWISE = GRADE | {"rubric": str(ROOT / "data/rubrics/persona_pairwise.md"), "mode": "pairwise",
                    "low": None, "high": None}  # fmt: skip
ASKED = prompt(["I sail."], ["Hi.", "Hello.", "Where?"], "In {answer_b} Rome.")


def judged(section, reply, answers=("On the sea.",)):
    """The values by a model that replies by a function of the text, and the texts."""
    texts = []

    def ask(key, asked):
        assert key == "m"
        texts.extend(asked)
        return [reply(text) for text in asked]

    scorer = Judge(**section).bound(ask)
    rows = [response(answer) for answer in answers]
    return scorer.values("scorers.j", [ASKED] * len(rows), rows, 1), texts


def test_a_grade():
    values, (text,) = judged(GRADE, lambda text: 'It is good. ```json\n{"grade": 4}\n```')
    assert values == [4]
    assert "- I sail." in text
    assert "User: Hi.\nAssistant: Hello.\nUser: Where?" in text
    assert "On the sea." in text
    assert not re.search(r"\{(persona|dialogue|answer)\}", text)
    assert judged(GRADE, lambda text: "I won't.")[0] == [None]


def test_the_golden_answer_ties_with_itself_and_no_model_is_asked():
    answers = ("On the sea.", "In {answer_b}  Rome. ", "In Spain.")
    for mode, expected in (("pairwise", [1, 0.5, 0]), ("flips", [0, 0, 0])):
        values, texts = judged(
            PAIRWISE | {"mode": mode},
            lambda text: json.dumps(
                {"better": "A" if "A:\nOn the" in text or "B:\nIn Spain" in text else "B"}
            ),
            answers,
        )
        assert values == expected
        assert len(texts) == 4


def prefers(wanted):
    """A judge that finds a text the better one wherever it stands."""
    return lambda text: json.dumps({"better": "A" if f"Answer A:\n{wanted}" in text else "B"})


@pytest.mark.parametrize(
    ("reply", "value", "flip"),
    [
        (prefers("On the sea."), 1, 0),
        (prefers("In {answer_b} Rome."), 0, 0),
        (lambda text: '{"better": "tie"}', 0.5, 0),
        (lambda text: '{"better": "A"}', 0.5, 1),  # whatever stands first
        (lambda text: '{"better": "C"}', None, None),
    ],
)
def test_two_answers_in_both_orders(reply, value, flip):
    values, texts = judged(PAIRWISE, reply)
    assert values == [value]
    # a brace in an answer is no placeholder
    assert "Answer A:\nOn the sea.\n\nAnswer B:\nIn {answer_b} Rome." in texts[0]
    assert "Answer A:\nIn {answer_b} Rome.\n\nAnswer B:\nOn the sea." in texts[1]
    flips, again = judged(PAIRWISE | {"mode": "flips"}, reply)
    assert (flips, again) == ([flip], texts)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.text(), ANY_JSON, st.text())
def test_whatever_a_judge_says_is_a_value_or_none(before, value, after):
    text = f"{before}{json.dumps({'grade': value})}{after}"
    assert read_grade(text, 1, 5) in {None, 1.0, 2.0, 3.0, 4.0, 5.0}
    assert read_better(f"{before}{json.dumps(value)}") in {None, "A", "B", "tie"}


@given(st.text(alphabet=st.characters(exclude_characters='{}"')), st.integers(1, 5))
def test_a_grade_is_found_in_prose(prose, grade):
    assert read_grade(f'{prose}{{"grade": {grade}}}{prose}', 1, 5) == grade
    # what it quotes or thinks first doesn't count
    assert read_grade(f'{{"grade": 1}} or rather {{"grade": {grade}}}', 1, 5) == grade


@pytest.mark.parametrize("value", ["6", "0", "4.0", "true", '"4"', "[4]", "null"])
def test_what_is_no_grade_of_the_scale(value):
    assert read_grade(f'{{"grade": {value}}}', 1, 5) is None
    assert read_grade(f'{{"grade": 4, "why": {value}}}', 1, 5) is None
    # a later word that is none takes back an earlier one
    assert read_grade(f'{{"grade": 4}} {{"grade": {value}}}', 1, 5) is None


def test_deep_and_broken_objects_are_passed_over():
    assert read_grade('{"a":' * 5_000, 1, 5) is None
    assert read_grade('{"grade": {"grade": 3', 1, 5) is None


@given(st.text(), st.text())
def test_texts_are_filled_in_to_the_letter(persona, answer):
    filled = fill("{persona}|{answer}", prompt([persona]), {"answer": answer})
    assert filled == f"- {persona}|{answer}"


@pytest.mark.parametrize(
    ("rubric", "mode", "message"),
    [
        (None, "grade", r"scorers\.j\.rubric is '.*', which can't be read"),
        ("Grade it.", "grade", r"a rubric of the mode grade needs \{answer\}, the place of"),
        ("{answer_a}", "pairwise", r"the mode pairwise needs \{answer_b\}"),
        (
            "{answer} {name}",
            "grade",
            r"nothing stands for \{name\}; there are \{answer\}, \{dialogue\}",
        ),
        ("{answer} {Persona}", "grade", r"nothing stands for \{Persona\}; there are"),
        ("{answer_a}{answer_b}{golden_answer}", "flips", r"nothing stands for \{golden_answer\}"),
    ],
)
def test_bad_rubrics_are_reported(tmp_path, rubric, mode, message):
    if rubric is not None:
        (tmp_path / "r.md").write_text(rubric)
    with pytest.raises(UserError, match=message):
        read_rubric(tmp_path / "r.md", mode, "scorers.j")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": None}, "a grade needs low and high, whole numbers with low below high"),
        ({"low": 5}, "a grade needs low and high"),
        ({"mode": "pairwise"}, "pairwise has a scale of its own; set low and high to null"),
    ],
)
def test_bad_scales_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Judge(**(GRADE | changes))
