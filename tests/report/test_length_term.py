"""The split of a difference in S_total into the length term and the rest."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.length_term import difference_parts

scores = st.floats(0, 1, width=32)


@given(
    st.lists(st.tuples(scores, scores, scores, scores), min_size=1, max_size=8),
    st.floats(0, 2),
    st.randoms(),
)
def test_the_length_term_is_what_the_total_loses_with_it(values, weight, draw):
    """S_total is made here of quality and length, so that what is left must be the quality."""
    ids = [str(n) for n in range(len(values))]
    quality, length, other_quality, other_length = (
        list(each) for each in zip(*values, strict=True)
    )

    def wide(ours, theirs):
        order = draw.sample(range(len(ids)), len(ids))
        return pd.DataFrame({"method": ours, "against": theirs}, index=ids).iloc[order]

    totals = wide(*([q + weight * n for q, n in zip(*both, strict=True)]
                    for both in ((quality, length), (other_quality, other_length))))  # fmt: skip
    parts = difference_parts(totals, wide(length, other_length), "method", "against", weight)
    expected = [ours - theirs for ours, theirs in zip(quality, other_quality, strict=True)]
    parts = parts.loc[ids]
    assert parts["rest"].tolist() == pytest.approx(expected, abs=1e-6)
    assert (parts["length"] + parts["rest"]).tolist() == pytest.approx(parts["total"].tolist())
