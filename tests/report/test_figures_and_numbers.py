"""How numbers are written, and figures of trainings that are long."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.intervals import Interval
from persodpo.report.figures import POINTS, TRAINING, draw, training_figure
from persodpo.report.tables import interval_text, p_text

ENDS = st.floats(-2, 2)


def test_a_long_training_is_drawn():
    """As with profiles/paper.yaml: more rows than altair takes by itself."""
    columns = ["step", *TRAINING["a"]]
    logs = {
        f"m{number}": pd.DataFrame(np.arange(2400.0)[:, None] + np.zeros(3), columns=columns)
        for number in range(12)
    }
    charts = training_figure(logs, "a")
    of_one = charts[0].data.query("method == 'm3'")
    assert len(of_one) <= POINTS
    assert of_one["step"].mean() == pytest.approx(2399 / 2)
    assert of_one["step"].is_monotonic_increasing
    assert draw(charts).startswith("<svg")


def test_a_short_one_keeps_every_step():
    log = pd.DataFrame({"step": [1, 2, 3], "loss/total": [3.0, 2.0, 1.0], "grad_norm": 1.0})
    (loss, _) = training_figure({"m": log}, "a")
    assert loss.data["Loss"].tolist() == [3.0, 2.0, 1.0]


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(0.006, 0.001, 0.011), "+0.006 [+0.001, +0.011]"),
        (Interval(-0.0012, -0.0021, -0.0003), "-0.0012 [-0.0021, -0.0003]"),
        (Interval(-0.001, -0.2, 0.2), "0.00 [-0.20, +0.20]"),
        (Interval(-0.001, 0.0, 0.2), "0.00 [0.00, +0.20]"),
        (Interval(1.0, None, None), "+1.00"),
        (None, "n/a"),
    ],
)
def test_an_end_that_is_not_0_is_not_shown_as_0(interval, text):
    assert interval_text(interval, "+") == text


@given(st.tuples(ENDS, ENDS).map(sorted))
def test_the_text_excludes_0_if_the_interval_does(ends):
    low, high = ends
    shown = interval_text(Interval((low + high) / 2, low, high), "+")
    numbers = [float(number) for number in shown.split("[")[1].rstrip("]").split(", ")]
    if abs(low) >= 1e-4 and abs(high) >= 1e-4:
        assert (numbers[0] > 0 or numbers[1] < 0) == (low > 0 or high < 0)
    assert "-0.00 " not in shown.replace("]", " ").replace(",", " ")


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0499, ".0499"), (0.0502, ".0502"), (0.05, ".050"), (0.0004, "< .001"), (1.0, "1.000")],
)
def test_a_p_value_near_5_percent_is_told_from_it(p, text):
    assert p_text(p) == text
