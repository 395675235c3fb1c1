"""Metrics that compare with the golden answer: words, meaning, use of the persona."""

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scored import prompt, response

from persodpo.score.overlap import ChrF, RougeL
from persodpo.score.persona_use import score_persona_use

WORDS = st.lists(st.sampled_from(["tower", "old", "you", "love", "the", "sea"]), max_size=12)


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def values(scorer, golden_answer, answer):
    (value,) = scorer.values(
        "scorers.x", [prompt(golden_answer=golden_answer)], [response(answer)], 1
    )
    return value


def longest(one, other):
    """The length of the longest common subsequence, by its recursion."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
            )
    return table[-1][-1]


@given(WORDS, WORDS)
@settings(deadline=None)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(golden, answer):
    common = longest(golden, answer)
    expected = 2 * common / (len(golden) + len(answer)) if common else 0.0
    found = values(RougeL(kind="rouge_l"), " ".join(golden).upper(), " ".join(answer))
    assert found == pytest.approx(expected)


def test_chrf_of_equal_and_of_different_texts():
    scorer = ChrF(kind="chrf")
    assert values(scorer, "The old tower.", "The old tower.") == pytest.approx(1)
    assert values(scorer, "aaaa", "bbbb") == 0
    assert 0 < values(scorer, "The old tower.", "The new tower.") < 1


@pytest.mark.parametrize(
    ("of_answer", "of_golden", "gap"),
    [("", "", 0), ("ab", "a", 1 / 3), ("a", "abc", 2 / 3), ("abc", "", 1), ("c", "a", 0)],
)
def test_too_many_persona_sentences_are_as_wrong_as_too_few(of_answer, of_golden, gap):
    def judge(inputs):
        used = {"answer": of_answer, "golden": of_golden}
        return [[0.1, 0.2, 0.7] if one in used[text] else [0.1, 0.7, 0.2] for one, text in inputs]

    asked = [prompt(persona="abc", golden_answer="golden")]
    assert score_persona_use(asked, ["answer"], judge) == [pytest.approx(gap)]


def test_a_persona_without_sentences_has_no_use():
    assert score_persona_use([prompt(persona=())], ["a"], lambda inputs: []) == [None]
