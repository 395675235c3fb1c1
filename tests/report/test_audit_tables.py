"""What the report makes of the audit: a table, warnings, and gains on the pairs' metrics alone."""

import pandas as pd
import pytest
from conftest import ROOT

from persodpo.report.audit import audit_table, audit_warnings, correlation_table
from persodpo.report.comparison import compare
from persodpo.report.gains import one_sided_gains
from persodpo.report.measures import Measure
from persodpo.score import Metric
from persodpo.workflow.params import load_params

COLUMNS = ["metric", "question", "measure", "value", "low", "high", "n", "clusters", "verdict"]
METRICS = {
    "c": Metric("C", low=-1, high=1, worst=-1, version=1, needs=("persona",)),
    "p": Metric("P", low=0, high=1, worst=0, version=1, needs=("persona",)),
    "gap": Metric("Gap", low=0, high=1, worst=1, version=1, higher_is_better=False),
    "logged": Metric("Logged", low=0, high=1, worst=0, version=1),
}
FINDINGS = pd.DataFrame(
    [
        ("c", "persona", "auc", 0.9, 0.85, 0.95, 48, 12, "sees it"),
        ("c", "opposites", "auc", 0.6, 0.45, 0.7, 226, 32, "doesn't see it"),
        ("c", "opposites", "called", 0.3, 0.2, 0.4, 113, 32, ""),
        ("c", "values", "called falsely", 0.125, 0.0, 0.25, 12, 12, ""),
        ("c", "values", "with p", 0.5, 0.1, 0.8, 12, 12, ""),
        ("p", "persona", "auc", 0.4, 0.2, 0.49, 48, 12, "wrong way round"),
        ("p", "opposites", "auc", 0.5, 0.4, 0.6, 226, 32, "doesn't see it"),
        ("gap", "values", "commonest", 1.0, 0.7, 1.0, 12, 12, "constant"),
        ("gap", "values", "words", 0.9, 0.85, 0.95, 12, 12, "is length"),
    ],
    columns=COLUMNS,
)


def test_the_table_has_what_was_asked():
    table = audit_table(FINDINGS, METRICS)
    assert list(table.index) == ["C", "P", "Gap"]  # nothing was found about published values
    assert table.loc["C", "Persona"] == "0.90 [0.85, 0.95]"
    assert table.loc["Gap", "Persona"] == ""
    # of the opposites, and of the sample
    assert table.loc["C", "Contradictions called"] == "0.30 [0.20, 0.40]"
    assert table.loc["C", "Golden answers called"] == "0.12 [0.00, 0.25]"
    assert "Turns" not in table.columns
    # the last one isn't asked anything, so nothing is known of it
    assert table["Passes"].tolist() == ["no", "no", "not asked"]
    assert correlation_table(FINDINGS, METRICS).loc["C", "P"] == "0.50 [0.10, 0.80]"


def test_a_metric_does_not_pass_without_its_main_question():
    """As of one dialogue, where nobody else's persona can be put in the place of its own."""
    rows = [
        ("c", "echo", "auc", 1.0, 0.2, 1.0, 2, 1, "doesn't see it"),
        ("p", "persona", "auc", 0.9, 0.8, 1.0, 2, 1, "sees it"),
        ("gap", "echo", "auc", 0.9, 0.8, 1.0, 2, 1, "sees it"),
    ]
    table = audit_table(pd.DataFrame(rows, columns=COLUMNS), METRICS)
    # the gap looks at no persona, so nothing else is asked of it
    assert table["Passes"].tolist() == ["not asked", "yes", "yes"]


def test_metrics_with_a_weight_are_warned_of():
    repeated = {"gpt": {"distance": 7.0, "share": 0.7, "chance": 0.01}}
    pool = {"logged": {"commonest": 0.1, "length": False, "words": 0.0, "repeats": repeated}}
    weights = {"c": 0.25, "p": 0.25, "gap": 0.0, "logged": 0.5}
    assert audit_warnings(FINDINGS, pool, METRICS, weights) == [
        "C has the weight 0.25 and can't tell an answer that agrees with a persona sentence from "
        "one that contradicts it: AUC 0.60 [0.45, 0.70], where .5 is chance.",
        # opposites don't count against a metric that calls nothing a contradiction
        "P has the weight 0.25 and can't tell the golden answer under its own persona from the "
        "same under another one: AUC 0.40 [0.20, 0.49], where .5 is chance (it is the wrong way "
        "round).",
        "Logged has the weight 0.5 and repeats itself in the answers of gpt: 70% of its values are "
        "those of 7 answers further on, and chance makes 1%.",
    ]
    reasons = audit_warnings(FINDINGS, {}, METRICS, {"gap": 1.0})
    assert [reason.split(" and ")[1][:22] for reason in reasons] == [
        "has the same value for", "follows the answer's l",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("c", "gap", "measures_named"),
    [
        (0.5, 0.0, "S_total, C, by which pairs are formed, and in no audit metric"),
        (0.5, -0.5, None),  # the gap is smaller, which is better
        (0.5, 0.5, "S_total, C, by which"),
        (0.0, 0.0, None),
        (-0.5, -0.5, None),
    ],
)
def test_gains_on_the_metrics_of_the_pairs_alone(c, gap, measures_named):
    noise = pd.Series(range(40)) % 7 / 50
    values = {
        key: pd.DataFrame({"base": noise, "m": noise.iloc[::-1].to_numpy() + shift})
        for key, shift in {"s_total": c, "c": c, "p": 0.0, "gap": gap}.items()
    }
    metrics = {key: METRICS[key] for key in ("c", "p", "gap")}
    measures = {
        key: Measure(key, 2.0, key not in metrics or metrics[key].higher_is_better)
        for key in values
    }
    dialogues = [str(number) for number in range(40)]
    compared = compare(values, [("base", "m")], dialogues, measures, 0.05)
    found = one_sided_gains(compared, metrics, {"c": 1, "p": 1})
    assert len(found) == (measures_named is not None)
    assert measures_named is None or f"m is better than base in {measures_named}" in found[0]
    assert one_sided_gains(compared, metrics, metrics) == []


def test_the_default_has_audit_metrics():
    params = load_params(ROOT / "params.yaml")
    assert {"rouge", "golden", "use"} <= params.scorers.keys() - params.scoring.weights.keys()
