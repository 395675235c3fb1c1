"""The numbers, tables and figures of the report, from evaluations as the stages leave them."""

import json
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from conftest import ROOT
from evaluations import (
    BETTER,
    FINDINGS,
    METRICS,
    NUMBERS,
    ROWS,
    SCALE,
    WHOLE,
    evaluated,
    write_evaluation,
    write_prompts,
)

from persodpo.config.report import ReportParams
from persodpo.errors import UserError
from persodpo.records import Prompt, read_rows, write_rows, write_text
from persodpo.report.results import read_results
from persodpo.report.scores import OTHERS, prompt_scores
from persodpo.report.summary import collapses, headline, summarise
from persodpo.report.write import read_sources, write_results
from persodpo.runner import write_json


@pytest.fixture
def artifacts(tmp_path):
    """All that the report reads, of every candidate of params.yaml, in a folder of its own."""
    folder = tmp_path / "artifacts"
    write_json(folder / "pairs/scale.json", SCALE.model_dump())
    numbers = {"pool": {"valid_overlap": 0.047}, "values": {}, "excess": ["Pairs are short."],
               "dpo": NUMBERS, "persodpo": NUMBERS}  # fmt: skip
    write_json(folder / "pairs/metrics.json", numbers)
    write_text(folder / "audit/findings.csv", FINDINGS)
    write_evaluation(folder, "base", ROWS)
    for name in WHOLE.candidates()[1:]:
        write_evaluation(folder, name, BETTER)
    for name in WHOLE.train.methods:
        columns = ["step", "loss/total", "grad_norm", "rewards/margins", "rewards/accuracies"]
        log = pd.DataFrame([[1, 0.7, 2.0, 0.0, 0.5], [2, 0.5, 1.0, 0.4, 1.0]], columns=columns)
        (folder / "training").mkdir(exist_ok=True)
        log = log if name != "sft" else log[["step", "loss/total", "grad_norm"]]
        log.to_csv(folder / f"training/{name}.csv", index=False)
        numbers = {} if name == "sft" else {"displaced_share": 0.75, "displaced_fall": -0.25}
        write_json(folder / f"training/{name}.json", {"loss": 0.5, **numbers})
    for column, file in {"s_total": "scores", "margin": "margins", "words": "lengths"}.items():
        table = pd.DataFrame({column: [0.1, 0.2], "chosen": [0.5, 0.5], "rejected": [1.0, 0.0]})
        table.to_csv(folder / f"pairs/{file}.csv", index=False)
    write_prompts(folder, "abcd")
    return folder


def results(artifacts, *names):
    return read_results(names, WHOLE, artifacts)


def computed(rows, dtype, device="cpu AVX2"):
    """The rows as answers that were computed so."""
    changes = {"dtype": dtype, "device": device}
    return [row.model_copy(update={"response": row.response.model_copy(update=changes)})
            for row in rows]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "other", "mark"),
    [
        (("float32",), ("float32",), None),
        (("float32",), ("bfloat16",), "base: float32 on cpu AVX2; dpo: bfloat16 on cpu AVX2"),
        (("float32",), ("float32", "cuda H100"), "base: float32 on cpu AVX2; dpo: float32 on cuda"),
        (("float32",), (None, None), None),  # a server's, or the data set's own
    ],
)
def test_answers_of_other_number_formats_or_devices_are_marked(artifacts, base, other, mark):
    write_evaluation(artifacts, "base", computed(ROWS, *base))
    write_evaluation(artifacts, "dpo", computed(BETTER, *other))
    write_results(read_sources(WHOLE, artifacts), WHOLE, artifacts / "results")
    for name in ("table1.md", "comparison.md", "report.html"):
        text = (artifacts / f"results/{name}").read_text()
        assert ("computed in different number formats" in text) == (mark is not None), name
        assert mark is None or mark in text


@pytest.mark.slow
def test_cut_answers_are_shown_apart_from_failed_ones(artifacts):
    cut = ROWS[3].response.model_copy(update={"finish_reason": "length"})
    write_evaluation(artifacts, "base", [*ROWS[:3], ROWS[3].model_copy(update={"response": cut})])
    summary = summarise(results(artifacts, "base"), "base", max_words=110)
    assert (summary["failure_ratio"], summary["cut_ratio"]) == (0.25, 0.25)
    write_results(read_sources(WHOLE, artifacts), WHOLE, artifacts / "results")
    table = (artifacts / "results/table1.md").read_text()
    section = table.split("## Total score")[1]
    header, _, first = section[section.index("| Candidate ") :].splitlines()[:3]
    column = [cell.strip() for cell in header.split("|")].index("Cut ↓")
    assert first.split("|")[column].strip() == "0.25"


@pytest.mark.parametrize(
    ("repeated", "distinct_2", "is_marked"),
    [
        (0.25, 0.9, True),
        (0.24, 0.9, False),
        (0.0, 0.44, True),
        (0.0, 0.45, False),
        (0.0, 0.46, False),
    ],
)
def test_where_a_collapse_begins(repeated, distinct_2, is_marked):
    """A quarter of the answers repeated, or fewer than half of the base's different bigrams."""
    base = {"all": {"s_total": {"mean": 0.2}}, "repeated": 0.0, "distinct_2": 0.9}
    method = {"all": {"s_total": {"mean": 0.3}}, "repeated": repeated, "distinct_2": distinct_2}
    assert ("dpo" in collapses({"base": base, "dpo": method}, {})) == is_marked


def test_a_worked_example(artifacts):
    summary = summarise(results(artifacts, "base"), "base", max_words=110)
    assert (summary["n"], summary["n_valid"]) == (4, 3)
    assert summary["failure_ratio"] == 0.25
    assert summary["length_compliance"] == 0.5
    assert summary["words"] == pytest.approx((4 + 4 + 200) / 3)
    assert summary["repeated"] == 0.5
    assert summary["distinct_1"] == pytest.approx(8 / 14)  # what d says counts, too
    assert summary["distinct_2"] == pytest.approx(6 / 10)
    assert summary["seconds"] == 1.5
    assert summary["seconds_p95"] == pytest.approx(2 + 0.85 * 7)
    assert summary["batch"] == [1, 4]
    assert summary["all"]["c"] == pytest.approx({"mean": 0.25, "sd": (11 / 16) ** 0.5})
    assert summary["valid"]["c"]["mean"] == pytest.approx(2 / 3)
    assert summary["all"]["p"]["mean"] == pytest.approx((0.5 + 0 + 0.5 + 0) / 4)
    assert summary["valid"]["p"]["mean"] == pytest.approx(0.5)
    assert summary["missing_values"] == {"p": 1}
    # of a: C 1, UE 0, P .5, Coh .25, the length at the target, the format kept
    a = 0.25 * (1 + 0 + 0.5 + 0.25) + WHOLE.scoring.w1 + WHOLE.scoring.w2
    b = a - 0.25 * (0.5 + 0.5)  # C 0, no P
    c = a - WHOLE.scoring.w1
    d = 0.25 * (0 + 0 + 0 + 0.25)
    assert summary["all"]["s_total"]["mean"] == pytest.approx((a + b + c + d) / 4)
    numbers = headline(summary)
    assert len(numbers) == 10
    assert set(numbers) == {"s_total", *METRICS, "failure_ratio", "repeated"}
    assert numbers["s_total"] == summary["all"]["s_total"]["mean"]
    assert numbers["p"] == summary["all"]["p"]["mean"]


def test_a_candidate_that_always_fails(artifacts):
    write_evaluation(artifacts, "base", [evaluated("a", None, seconds=None, c=-1.0, batch=None)])
    write_prompts(artifacts, "a")
    summary = summarise(results(artifacts, "base"), "base", max_words=110)
    assert summary["failure_ratio"] == 1.0
    assert summary["words"] is summary["distinct_2"] is summary["seconds"] is None
    assert summary["valid"]["c"] == {"mean": None, "sd": None}
    assert "words" not in headline(summary)


def collapsing(text, n=8):
    return [evaluated(str(number), text.format(number), c=1.0) for number in range(n)]


def test_a_method_that_wins_and_collapses_is_marked(artifacts, tmp_path):
    many = "{0} and {0} of {0} in {0} by {0}"
    failing = [evaluated(str(n), None, c=-1.0, raw=many.format(f"a{n}")) for n in range(8)]
    write_evaluation(artifacts, "base", failing)
    write_evaluation(artifacts, "dpo", collapsing("I am ready to help you."))
    write_evaluation(artifacts, "persodpo", collapsing(many))
    write_prompts(artifacts, map(str, range(8)))
    names = ["base", "dpo", "persodpo"]
    read = results(artifacts, *names)
    found = collapses({name: summarise(read, name, 110) for name in names}, {})
    assert list(found) == ["dpo"]
    assert "gives 1.00 of its answers to more than one prompt (base: 0.00)" in found["dpo"]
    assert "distinct-2" in found["dpo"]
    # one that collapses without winning is no false winner
    write_prompts(artifacts, "abcd")
    write_evaluation(artifacts, "base", BETTER)
    write_evaluation(artifacts, "dpo", [evaluated(id_, None, c=-1.0) for id_ in "abcd"])
    read = results(artifacts, "base", "dpo")
    assert not collapses({name: summarise(read, name, 110) for name in ("base", "dpo")}, {})


@pytest.mark.slow
def test_all_files_are_written(artifacts, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)  # for the paper's rows
    same = [evaluated(id_, "The same to all.", c=1.0) for id_ in "abcd"]
    write_evaluation(artifacts, "persodpo", same)
    write_evaluation(artifacts, "sft", ROWS)  # what it started from
    folder = tmp_path / "results"
    write_results(read_sources(WHOLE, artifacts), WHOLE, folder)
    table = (folder / "table1.md").read_text()
    assert "dpo: 7 pairs over 5 prompts" in table
    assert "Versions: Coh-MiniLM 1, C (any) 2, UE (any) 2, P 2, ROUGE-L (audit) 1" in table
    rows = [line for line in table.splitlines() if line.startswith("| base ")]
    assert "| 0.25 ± 0.83 " in rows[0]  # C of base over all responses
    assert "Qwen2 PersoDPO †" in table
    assert "⚠ persodpo has a higher S_total than sft" in table
    assert "| persodpo ⚠ " in table
    compared = (folder / "comparison.md").read_text()
    assert "## Compared with base" in compared
    assert "## Compared with dpo" in compared
    assert "## Compared with sft" in compared
    assert "## Compared with persodpo_unweighted" in compared
    # four prompts say nothing
    short = next(x for x in compared.splitlines() if x.startswith("| dpo - base "))
    assert "| undecided " in short
    section = table.split("## Total score")[1]
    assert next(x for x in section.splitlines() if x.startswith("| dpo ")).endswith(
        "| 0.75          | -0.25    |"
    )
    assert "4 prompts." in compared
    line = next(x for x in compared.splitlines() if x.startswith("| dpo ") and "| C (any) ↑" in x)
    assert "| +0.75 [0.00, +1.50] " in line
    assert "| 2 / 2 / 0 " in line
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics) == WHOLE.candidates()
    assert all(len(numbers) <= 10 for numbers in metrics.values())
    assert metrics["base"]["failure_ratio"] == 0.25
    scores = pd.read_csv(folder / "scores.csv")
    means = scores.groupby("candidate", sort=False).mean(numeric_only=True)
    for name, numbers in metrics.items():
        assert means.loc[name, "s_total"] == pytest.approx(numbers["s_total"])
        assert means.loc[name, "c"] == pytest.approx(numbers["c"])
        assert means.loc[name, "failed"] == pytest.approx(numbers["failure_ratio"])
    plotted = pd.read_csv(folder / "candidates.csv")
    assert plotted["candidate"].tolist() == WHOLE.candidates()
    for name, words in {"figure2a": "Gradient norm", "figure2b": "Reward accuracy",
                        "figure2c": "Failure ratio"}.items():  # fmt: skip
        svg = (folder / f"{name}.svg").read_text()
        assert ET.fromstring(svg).tag.endswith("svg")
        assert words in svg
    page = (folder / "report.html").read_text()
    assert "⚠ Pairs are short." in table
    # P doesn't pass the audit, and has a weight
    audit = (folder / "audit.md").read_text()
    for text in (table, audit):
        assert "⚠ P has the weight 0.25 and can't tell the golden answer under its own" in text
        assert "⚠ C (any)" not in text
    assert "| P " in audit
    assert "Pairs are short" not in audit
    for words in ("Compared with dpo", "Reward margin", "The same to all.", "I sail.", "There.",
                  "⚠ Pairs are short.", ">Conflicting<", "4.7% are close"):  # fmt: skip
        assert words in page
    # nothing hangs on time, order or chance
    again = tmp_path / "again"
    write_results(read_sources(WHOLE, artifacts), WHOLE, again)
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_the_total_score_spans_all_its_terms(artifacts):
    """Its width decides what is equivalent: the default's four weights of 0.25, w1 and w2."""
    measures = results(artifacts, "base").measures()
    assert measures["s_total"].width == pytest.approx(1 + 0.32 + 0.16)


def test_every_prompt_keeps_its_values_and_dialogue(artifacts):
    """Also of a candidate whose rows come in another order."""
    write_evaluation(artifacts, "dpo", [*ROWS[2:], *ROWS[:2]])
    file = artifacts / "prompts/valid.jsonl"
    prompts = read_rows(file, Prompt)
    dialogues = ["one", "two", "one", None]
    write_rows(file, [each.model_copy(update={"dialogue": dialogue})
                      for each, dialogue in zip(prompts, dialogues, strict=True)])  # fmt: skip
    read = results(artifacts, "base", "dpo")
    scores = prompt_scores(read)
    assert scores.table["dialogue"].tolist() == ["one", "two", "one", "d"] * 2
    assert scores.clusters() == read.clusters()
    assert scores.candidates() == ["base", "dpo"]
    for column in (*read.measures(), *OTHERS):
        wide = scores.values(column)
        assert wide["base"].tolist() == wide["dpo"].tolist(), column
    assert scores.values("words")["base"].loc["c"] == 200
    assert scores.values("c")["base"].loc["d"] == read.metrics["c"].worst


def test_a_metric_of_the_weight_0_is_an_audit_metric(artifacts):
    weights = WHOLE.scoring.weights | {"p": 0.0}
    scoring = WHOLE.scoring.model_copy(update={"weights": weights})
    read = read_results(["base", "dpo"], WHOLE.model_copy(update={"scoring": scoring}), artifacts)
    assert "p" in read.audit_keys()
    assert read.metrics["p"].label == "P (audit)"
    assert read.weights.keys() == weights.keys() - {"p"}


def test_a_metric_without_a_value_is_named(artifacts):
    """Over all responses it counts as the worst, which nobody would see in the mean."""
    write_results(read_sources(WHOLE, artifacts), WHOLE, artifacts / "results")
    assert (
        "P has no value of some valid answers (1 of base):"
        in (artifacts / "results/table1.md").read_text()
    )


def test_the_margin_of_equivalence_is_not_rounded(artifacts):
    evaluate = WHOLE.evaluate.model_copy(update={"equivalence": 0.025})
    params = WHOLE.model_copy(update={"evaluate": evaluate})
    write_results(read_sources(params, artifacts), params, artifacts / "results")
    assert "within 2.5% of" in (artifacts / "results/comparison.md").read_text()


def test_the_texts_can_be_left_out(artifacts, tmp_path):
    without = WHOLE.model_copy(update={"report": ReportParams(texts=False)})
    write_results(read_sources(without, artifacts), without, tmp_path / "results")
    page = (tmp_path / "results/report.html").read_text()
    assert "Compared with dpo" in page
    assert not any(text in page for text in ("I sail.", "There.", "The same to all."))


def test_evaluations_of_different_runs_are_refused(artifacts):
    def refusal():
        with pytest.raises(UserError) as caught:
            read_results(["base", "dpo"], WHOLE, artifacts)
        return str(caught.value)

    file = artifacts / "prompts/valid.jsonl"
    write_rows(file, read_rows(file, Prompt)[:3])
    assert "the evaluations answer other prompts" in refusal()
    with pytest.raises(UserError, match="the evaluations answer other prompts"):
        read_sources(WHOLE, artifacts)
    write_evaluation(artifacts, "dpo", BETTER[:3])
    assert "dpo.jsonl: its prompts aren't those of base" in refusal()
    write_evaluation(artifacts, "dpo", [*BETTER, BETTER[0]])
    assert "or a prompt twice" in refusal()
    (artifacts / "evaluations/dpo.jsonl").write_text("")
    assert "it has no rows" in refusal()
    (artifacts / "evaluations/base.jsonl").rename(artifacts / "evaluations/dpo.jsonl")
    assert "there is no such file" in refusal()
