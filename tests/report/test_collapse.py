"""The measures of a model that says the same to everybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.report.collapse import distinct, repeated_share


@given(st.lists(st.text(), min_size=1), st.integers(1, 3))
def test_collapse_measures_are_shares(answers, n):
    assert 0 <= repeated_share(answers) <= 1
    share = distinct(answers, n)
    assert share is None or 0 < share <= 1
    assert repeated_share(answers * 2) == 1.0


def test_collapse_and_its_absence():
    assert repeated_share(["I can help.", "i  can help.", "Yes."]) == pytest.approx(2 / 3)
    assert repeated_share(["a", "b"]) == 0
    assert distinct(["The sea, the sea"], 2) == pytest.approx(2 / 3)
    assert distinct(["The sea, the sea"], 1) == 0.5
    assert distinct(["one", "two"], 2) is None
