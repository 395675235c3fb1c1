"""Evaluations as the stages leave them, for tests of what is made of them."""

from conftest import ROOT

from persodpo.pair.scoring import Bounds, Scale
from persodpo.prompts import render_prompt
from persodpo.records import Evaluated, Prompt, Response, Score, write_rows
from persodpo.score import declared_metrics
from persodpo.workflow.params import load_params

WHOLE = load_params(ROOT / "params.yaml")
METRICS = declared_metrics(WHOLE.scorers)
SCALE = Scale(
    bounds={key: Bounds(low=m.low, high=m.high) for key, m in METRICS.items()}, target=4.0
)
AUDIT_VALUES = {"rouge": 0.5, "golden": 0.5, "use": 0.0}
NUMBERS = {
    "pairs": 7, "prompts": 5, "words_chosen": 4.0, "words_rejected": 5.0, "chosen_longer": 0.5,
    "rejected_invalid": 0.25, "margin": {"median": 0.5},
    "checks": {"length_d": -0.4, "near_duplicates": 0.0, "conflicting_texts": 0.25,
               "decided_by_format": 0.1, "decided_by_length": None, "decided_by_both": 0.2},
}  # fmt: skip


FINDINGS = """\
metric,question,measure,value,low,high,n,clusters,verdict
c,persona,auc,0.9,0.8,0.95,8,4,sees it
c,values,commonest,0.25,0.1,0.6,4,4,
p,persona,auc,0.6,0.4,0.75,8,4,doesn't see it
"""


def evaluated(id_, parsed, seconds=1.0, c=0.0, p=0.5, words=None, raw="raw", batch=4):
    response = Response(
        id=id_, model="", raw=raw, contract="none" if parsed is None else "valid",
        answer=parsed, seconds=seconds, prompt_tokens=1, served_model=None, batch_size=batch,
        system_fingerprint=None, request_key=None,
        words=words or len((parsed or "raw").split()), completion_tokens=1, finish_reason="stop",
    )  # fmt: skip
    score = Score(id=id_, model="", contract=response.contract, answer=response.answer,
                  values=AUDIT_VALUES | {"c": c, "ue": 0.0, "p": p, "coh": 0.25})  # fmt: skip
    return Evaluated(response=response, score=score)


ROWS = [
    evaluated("a", "a b c d", seconds=1.0, c=1.0),
    evaluated("b", "a b c d", seconds=2.0, c=0.0, p=None),
    evaluated("c", "e f", seconds=9.0, c=1.0, words=200, batch=1),
    evaluated("d", None, seconds=1.0, c=-1.0, p=0.0, raw="x y x y"),
]
BETTER = [evaluated(id_, f"{id_} one two three", c=1.0) for id_ in "abcd"]


def write_evaluation(artifacts, name, rows):
    rows = [
        Evaluated(
            response=row.response.model_copy(update={"model": name}),
            score=row.score.model_copy(update={"model": name}),
        )
        for row in rows
    ]
    write_rows(artifacts / f"evaluations/{name}.jsonl", rows)


def write_prompts(folder, ids):
    prompts = [
        Prompt(id=id_, persona=["I sail."], turns=["Where?"], golden_answer="There.",
               text=render_prompt(["I sail."], ["Where?"], 110))
        for id_ in ids
    ]  # fmt: skip
    write_rows(folder / "prompts/valid.jsonl", prompts)
