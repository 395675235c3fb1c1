"""Prompts, responses and the scorers of params.yaml, for tests of metrics."""

from workspace import ROOT

from persodpo.prompts import wrap_response
from persodpo.records import Prompt, Response
from persodpo.score import score_responses
from persodpo.workflow import load_params

WHOLE = load_params(ROOT / "params.yaml")
SCORERS = WHOLE.scorers


def changed(key, **changes):
    """The scorers of params.yaml with one of them changed."""
    return SCORERS | {key: SCORERS[key].model_copy(update=changes)}


def score(prompts, rows, scorers=SCORERS, batch_tokens=WHOLE.score.batch_tokens):
    return score_responses(prompts, rows, scorers, batch_tokens)


def prompt(persona=("A man is playing a guitar.",), turns=("Where?",), golden_answer="r", id_="p"):
    return Prompt(
        id=id_, persona=list(persona), turns=list(turns), golden_answer=golden_answer, text="t"
    )


def response(parsed, id_="p", model="m"):
    raw = "no json" if parsed is None else wrap_response(parsed)
    return Response(id=id_, model=model, raw=raw, answer=parsed, words=3, seconds=0.0,
                    contract="none" if parsed is None else "valid", prompt_tokens=0,
                    completion_tokens=0, finish_reason="stop", served_model=None,
                    system_fingerprint=None, request_key=None)  # fmt: skip
