import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from persodpo.evaluation import distinct_2, repeated_share, summarise
from persodpo.params import load_params
from persodpo.records import Evaluated, Response, Score
from persodpo.report import candidates_table, table_1, total_score
from persodpo.scorers import declared_metrics
from persodpo.scoring import Bounds, Scale

WHOLE = load_params(ROOT / "params.yaml")
METRICS = declared_metrics(WHOLE.scorers)
SCALE = Scale(
    bounds={key: Bounds(low=m.low, high=m.high) for key, m in METRICS.items()}, target=4.0
)


def evaluated(id_, parsed, seconds=1.0, c=0.0, p=0.5, words=None, raw="raw"):
    response = Response(
        id=id_, model="m", raw=raw, contract="none" if parsed is None else "valid",
        answer=parsed, seconds=seconds, prompt_tokens=1, served_model=None,
        system_fingerprint=None, request_key=None,
        words=words or len((parsed or "raw").split()), completion_tokens=1, finish_reason="stop",
    )  # fmt: skip
    score = Score(id=id_, model="m", contract=response.contract, answer=response.answer,
                  c=c, ue=0.0, p=p, coh=0.25)  # fmt: skip
    return Evaluated(response=response, score=score)


ROWS = [
    evaluated("a", "a b c d", seconds=1.0, c=1.0),
    evaluated("b", "a b c d", seconds=2.0, c=0.0, p=None),
    evaluated("c", "e f", seconds=9.0, c=1.0, words=200),
    evaluated("d", None, seconds=1.0, c=-1.0, p=0.0, raw="x y x y"),
]


def test_a_worked_example():
    summary = summarise(ROWS, max_words=110, metrics=METRICS)
    assert summary["n"] == 4
    assert summary["failure_ratio"] == 0.25
    assert summary["format_compliance"] == 0.75
    assert summary["length_compliance"] == 0.5
    assert summary["words"] == pytest.approx((4 + 4 + 200) / 3)
    assert summary["repeated"] == 0.5
    assert summary["distinct_2"] == pytest.approx(6 / 10)  # what d says counts, too
    assert summary["seconds"] == 1.5
    assert summary["all"]["c"] == pytest.approx({"mean": 0.25, "sd": (11 / 16) ** 0.5})
    assert summary["valid"]["c"]["mean"] == pytest.approx(2 / 3)
    assert summary["all"]["p"]["mean"] == pytest.approx((0.5 + 0 + 0.5 + 0) / 4)
    assert summary["valid"]["p"]["mean"] == pytest.approx(0.5)
    assert summary["missing_values"] == 1


def test_a_candidate_that_always_fails():
    summary = summarise([evaluated("a", None, c=-1.0)], max_words=110, metrics=METRICS)
    assert summary["failure_ratio"] == 1.0
    assert summary["words"] is summary["distinct_2"] is None
    assert summary["valid"]["c"] == {"mean": None, "sd": None}
    summary["s_total"] = {"mean": 0.5, "sd": 0.0}
    table = table_1({"base": summary}, {"dpo": {"pairs": 1, "prompts": 1}}, METRICS)
    assert "n/a" in table


def test_the_tables():
    summaries = {
        "base": summarise(ROWS, 110, METRICS),
        "persodpo": summarise(ROWS[:2], 110, METRICS),
    }
    for summary, rows in zip(summaries.values(), (ROWS, ROWS[:2]), strict=True):
        summary["s_total"] = total_score(rows, SCALE, WHOLE.scoring, METRICS)
    table = table_1(summaries, {"dpo": {"pairs": 7, "prompts": 5}}, METRICS)
    assert "dpo: 7 pairs over 5 prompts" in table
    assert "Versions: Coh-MiniLM 1, C 2, UE 2, P 1." in table
    rows = [line for line in table.splitlines() if line.startswith(("| base", "| persodpo"))]
    assert len(rows) == 6
    assert "| 0.25 ± 0.83 " in rows[0]  # C of base over all responses
    # of a: C 1, UE 0, P .5, Coh .25, the length at the target, the format kept
    first = 0.25 * (1 + 0 + 0.75 + 0.25) + WHOLE.scoring.w1 + WHOLE.scoring.w2
    second = first - 0.25 * (0.5 + 0.25)  # C 0, no P
    assert f"| {(first + second) / 2:.2f} ± {(first - second) / 2:.2f} " in rows[5]
    assert "Coh-MiniLM" in table
    columns = candidates_table(summaries)
    assert columns["candidate"].tolist() == ["base", "persodpo"]
    assert columns["failure_ratio"].tolist() == [0.25, 0.0]


@given(st.lists(st.text(), min_size=1))
def test_collapse_measures_are_shares(answers):
    assert 0 <= repeated_share(answers) <= 1
    distinct = distinct_2(answers)
    assert distinct is None or 0 < distinct <= 1
    assert repeated_share(answers * 2) == 1.0


def test_collapse_and_its_absence():
    assert repeated_share(["I can help.", "i  can help.", "Yes."]) == pytest.approx(2 / 3)
    assert repeated_share(["a", "b"]) == 0
    assert distinct_2(["The sea, the sea"]) == pytest.approx(2 / 3)
    assert distinct_2(["one", "two"]) is None
