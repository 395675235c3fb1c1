"""The judge of persona sentences and answers: an NLI classifier beside a sentence encoder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.score.judges.persona import PersonaJudge, Settings, combine, sentences

SETTINGS = Settings(
    encoder="e", revision=None, slope=20.0, midpoint=0.3, nearest=0.25, threshold=0.8
)


@given(st.floats(-1, 1), st.floats(1e-6, 1 - 1e-6) | st.none())
def test_it_gives_probabilities(cosine, contradiction):
    found = combine(cosine, contradiction, SETTINGS)
    assert sum(found) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in found)
    if contradiction is None:
        assert found[0] == 0


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_the_threshold_is_where_a_contradiction_is_called(contradiction, threshold):
    settings = SETTINGS.model_copy(update={"threshold": threshold})
    against = combine(0.9, contradiction, settings)[0]
    assert (against > 0.5) == (contradiction > threshold) or against == pytest.approx(0.5)


def test_the_midpoint_is_where_use_is_as_likely_as_none():
    _, neutral, entailed = combine(0.3, None, SETTINGS)
    assert neutral == pytest.approx(entailed)
    assert combine(0.4, None, SETTINGS)[2] > 0.5 > combine(0.2, None, SETTINGS)[2]


@given(st.text())
def test_sentences_lose_nothing_but_white_space(text):
    found = sentences(text)
    assert found
    assert "".join("".join(found).split()) == "".join(text.split())


def test_sentences_end_at_full_stops_and_semicolons():
    assert sentences("It is old. You sail; come! ") == ["It is old.", "You sail;", "come!"]
    assert sentences("") == [""]


class Known:
    """A judge whose judgements are known, and which remembers what it was asked."""

    def __init__(self, known):
        self.known, self.asked = known, []

    def __call__(self, inputs):
        self.asked += inputs
        yield [(texts, self.known[texts]) for texts in inputs]


def test_the_nearest_sentence_is_classified_and_only_where_it_is_near():
    answer = "It is old. You hate boats."
    encoder = Known({
        ("I sail.", answer): [0.4], ("I sail.", "It is old."): [0.1],
        ("I sail.", "You hate boats."): [0.6],
        ("I cook.", answer): [0.1], ("I cook.", "It is old."): [0.0],
        ("I cook.", "You hate boats."): [0.2],
    })  # fmt: skip
    nli = Known({("I sail.", "You hate boats."): [0.95, 0.03, 0.02]})
    judge = PersonaJudge(nli, encoder, SETTINGS)
    found = dict(
        row for batch in judge([("I sail.", answer), ("I cook.", answer)]) for row in batch
    )
    assert nli.asked == [("I sail.", "You hate boats.")]
    assert found["I sail.", answer] == combine(0.4, 0.95, SETTINGS)
    assert found["I sail.", answer][0] > 0.5
    assert found["I cook.", answer] == combine(0.1, None, SETTINGS)


def test_what_was_near_nowhere_needs_no_classifier():
    encoder = Known({("I sail.", "It is old."): [0.0]})
    judge = PersonaJudge(lambda inputs: pytest.fail("asked"), encoder, SETTINGS)
    ((_, found),) = next(judge([("I sail.", "It is old.")]))
    assert found[0] == 0
