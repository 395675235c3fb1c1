"""Published values in the place of computed ones."""

import math

import pandas as pd
import pytest
from conftest import ROOT
from scored import response, score

from persodpo.errors import UserError
from persodpo.pair.scoring import Bounds, normalise
from persodpo.score import declared_metrics
from persodpo.score.logged import Logged


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


@pytest.fixture
def logged(tmp_path, prompts):
    """All metrics logged, for a model that is called m."""
    table = pd.DataFrame({"id": [p.id for p in prompts], "Coh": 0.25, "C": [-1, 0, 1, "", 1, 0],
                          "UE": 2, "P": -0.5})  # fmt: skip
    table.to_csv(tmp_path / "m.csv", index=False)
    return {
        key: Logged(
            kind="logged", column=label, files={"m": str(tmp_path / "m.csv")}, id_column="id",
            label=label, low=float(low), high=float(high), worst=float(low),
            lowest_published=lowest,
        )
        for key, label, low, high, lowest in [
            ("coh", "Coh", 0, 1, None), ("c", "C", -1, 1, None), ("ue", "UE", 0, 2, None),
            ("p", "P", 0, 1, -1.0),
        ]
    }  # fmt: skip


@pytest.mark.parametrize("id_column", ["id", None])
def test_published_values_are_taken_for_valid_responses(logged, prompts, id_column, capsys):
    scorers = {
        key: scorer.model_copy(update={"id_column": id_column}) for key, scorer in logged.items()
    }
    if id_column is None:  # by the row's number, in whatever order the prompts were drawn
        prompts = [p.model_copy(update={"id": str(i)}) for i, p in enumerate(prompts)]
    rows = [response(None if i == 1 else "x", p.id) for i, p in enumerate(prompts)]
    scores = score(prompts[::-1], rows[::-1], scorers)[::-1]
    assert [row.values["c"] for row in scores] == [-1, -1, 1, None, 1, 0]
    assert [row.values["coh"] for row in scores] == [0.25, 0, 0.25, 0.25, 0.25, 0.25]
    assert "C (logged) can't be computed for 1 of 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(C=2), r"m\.csv, the row of prompt '.*': 'C' is '2', which is no"),
        (lambda t: t.assign(UE=[0, 0, "x", 0, 0, 0]), "'UE' is 'x', which is no number from 0"),
        (lambda t: t.drop(columns="P"), "there is no column 'P', which params.yaml: scorers.p.col"),
        (lambda t: t.head(5), r"there is no row for prompt '.*' \(1 prompts have none\); sample"),
        (lambda t: t.drop(columns="id"), r"there is no column 'id', which .*scorers\.coh\.id_col"),
        (lambda t: t.assign(P=math.inf), "'P' is 'inf', which is no number"),
    ],
)  # fmt: skip
def test_published_values_that_do_not_fit_are_reported(logged, prompts, change, message):
    file = logged["c"].files["m"]
    change(pd.read_csv(file, dtype=str, keep_default_na=False)).to_csv(file, index=False)
    with pytest.raises(UserError, match=message):
        score(prompts, [response("x", p.id) for p in prompts], logged)


def test_a_published_p_below_0_stays_what_it_is_and_counts_as_0(logged, prompts):
    """And a failed response has no nearness at all, where it once had half of the scale."""
    file = logged["c"].files["m"]
    table = pd.read_csv(file, dtype=str, keep_default_na=False).assign(P="-0.25")
    table.to_csv(file, index=False)
    rows = [response(None if i == 1 else "x", p.id) for i, p in enumerate(prompts)]
    scores = score(prompts, rows, logged)
    assert [row.values["p"] for row in scores] == [-0.25, 0, *[-0.25] * 4]
    metric = declared_metrics(logged)["p"]
    bounds = Bounds(low=metric.low, high=metric.high)
    values = pd.Series([-0.25, metric.worst, 0.5, 1.0])
    assert normalise(values, bounds, higher_is_better=True).tolist() == [0, 0, 0.5, 1]


def test_a_trained_candidate_never_gets_its_base_models_published_values(logged, prompts):
    with pytest.raises(UserError, match=r"scorers\.coh\.files has no file for 'persodpo'"):
        score(prompts, [response("x", prompts[0].id, "persodpo")], logged)
