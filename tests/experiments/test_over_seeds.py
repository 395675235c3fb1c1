"""The interval over seeds and prompts together: against its parts, and how often it is right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.experiments.seeds import crossed_interval, over_seeds
from persodpo.intervals import mean_interval

DIALOGUES = [f"d{number}" for number in range(40)]


def width(interval):
    return interval.high - interval.low


def test_seeds_alone_make_it_wide():
    """Every prompt has its seed's mean, so nothing but the seeds is drawn."""
    means = np.array([0.0, 1.0, 5.0])
    found = over_seeds(np.repeat(means[:, None], 40, axis=1), DIALOGUES, 999)
    assert found.interval.mean == pytest.approx(2)
    assert (found.interval.low, found.interval.high) == pytest.approx((0, 5), abs=0.7)
    assert found.sd == pytest.approx(np.std(means, ddof=1))
    assert found.positive == 2


def test_prompts_alone_make_it_as_wide_as_for_one_seed():
    one = np.random.default_rng(0).normal(size=40)
    crossed = crossed_interval(np.stack([one] * 3), DIALOGUES, 4999)
    alone = mean_interval(one, 4999, clusters=DIALOGUES)
    assert crossed.mean == pytest.approx(one.mean())
    assert width(crossed) == pytest.approx(width(alone), rel=0.08)


def test_the_prompts_of_a_dialogue_are_drawn_together():
    values = np.random.default_rng(1).normal(size=(3, 10)).repeat(4, axis=1)
    together = crossed_interval(values, [f"d{number // 4}" for number in range(40)], 999)
    apart = crossed_interval(values, DIALOGUES, 999)
    assert width(together) > 1.2 * width(apart)


@given(st.floats(-2, 2), st.floats(0.1, 3))
def test_it_moves_and_stretches_with_the_values(shift, scale):
    values = np.random.default_rng(2).normal(size=(3, 6))
    before = crossed_interval(values, DIALOGUES[:6], 199)
    after = crossed_interval(shift + scale * values, DIALOGUES[:6], 199)
    expected = [shift + scale * end for end in before]
    assert list(after) == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
def test_it_covers_the_true_mean():
    """Of five seeds and 40 prompts: a little less than 95 %, as docs/evaluation.md says."""
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(400):
        of_seed, of_prompt = rng.normal(size=(5, 1)), rng.normal(size=(1, 40))
        values = 0.1 * of_seed + of_prompt + rng.normal(size=(5, 40))
        interval = crossed_interval(values, DIALOGUES, 299)
        hits.append(interval.low <= 0 <= interval.high)
    assert 0.88 <= np.mean(hits) <= 0.98
