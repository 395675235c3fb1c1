import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.pair.numbers import histogram, pair_metrics, plot_data, pool_metrics, wins

TABLE = pd.DataFrame(
    [
        ("a", "m1", 10, True, 0.9),
        ("a", "m2", 20, True, 0.8),
        ("a", "m3", 5, False, 0.2),
        ("b", "m1", 30, True, 0.5),
        ("c", "m3", 30, False, 0.4),
    ],
    columns=["id", "model", "words", "valid", "s_total"],
)
PAIRS = pd.DataFrame({"chosen": [0, 0, 1], "rejected": [1, 2, 2], "margin": [0.1, 0.7, 0.6]})
EMPTY = PAIRS.iloc[:0]


def test_a_worked_example():
    numbers = pair_metrics(PAIRS, TABLE)
    assert numbers.pop("margin") == pytest.approx(
        {"min": 0.1, "q25": 0.35, "median": 0.6, "q75": 0.65, "max": 0.7, "mean": 1.4 / 3}
    )
    assert numbers == pytest.approx(
        {"pairs": 3, "prompts": 1, "prompt_share": 1 / 3, "chosen_models": 2, "rejected_models": 2,
         "words_chosen": 40 / 3, "words_rejected": 10, "chosen_longer": 2 / 3,
         "chosen_invalid": 0, "rejected_invalid": 2 / 3}
    )  # fmt: skip


def test_an_empty_set():
    numbers = pair_metrics(EMPTY, TABLE)
    assert (numbers["pairs"], numbers["words_chosen"], numbers["margin"]["mean"]) == (0, None, None)
    data = plot_data({"dpo": EMPTY, "persodpo": PAIRS}, TABLE)
    assert data["margins"]["dpo"].sum() == 0


def test_who_wins():
    counted = wins({"dpo": EMPTY, "persodpo": PAIRS}, TABLE)
    assert counted.values.tolist() == [
        ["persodpo", "m1", "m2", 1], ["persodpo", "m1", "m3", 1], ["persodpo", "m2", "m3", 1],
    ]  # fmt: skip


def test_plots_show_what_they_say():
    data = plot_data({"dpo": PAIRS.iloc[[1]], "persodpo": PAIRS}, TABLE)
    lengths = data["lengths"]
    assert lengths["words"].iloc[[0, -1]].tolist() == [5.625, 29.375]
    assert lengths["rejected"].iloc[0] == pytest.approx(2 / 3)  # m3's 5 words
    scores, margins = data["scores"], data["margins"]
    assert scores["s_total"].iloc[[0, -1]].tolist() == pytest.approx([0.2175, 0.8825])
    assert scores["chosen"].iloc[-1] == pytest.approx(2 / 3)
    assert scores["rejected"].iloc[0] == pytest.approx(2 / 3)
    assert scores["responses"].iloc[0] == pytest.approx(1 / 5)
    assert margins["margin"].iloc[[0, -1]].tolist() == pytest.approx([0.115, 0.685])
    assert margins[["dpo", "persodpo"]].iloc[-1].tolist() == pytest.approx([1, 1 / 3])


values = st.lists(st.floats(-10, 10), max_size=20).map(np.array)


@given(one=values, two=values, limits=st.none() | st.just((-10.0, 10.0)))
def test_shares_sum_to_one(one, two, limits):
    table = histogram("x", {"one": one, "two": two}, limits)
    for name, column in (("one", one), ("two", two)):
        assert table[name].sum() == pytest.approx(1.0 if len(column) else 0.0)


@pytest.mark.parametrize("value", [0.0, 0.3, -7.0, 1e6])
def test_values_that_differ_by_rounding_alone(value):
    column = np.array([value, np.nextafter(value, 9e9)])
    assert histogram("x", {"one": column})["one"].sum() == 1


def test_the_pool_is_counted():
    rows = TABLE.assign(c=0.0, p=[None, 0.1, None, 0.1, 0.0])
    # the missing value of a failed response doesn't count
    assert pool_metrics(rows, ["c", "p"]) == {
        "responses": 5, "valid": 3, "missing_values": 1,
    }  # fmt: skip
