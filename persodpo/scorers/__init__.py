"""The four raw sub-scores of every response: C, UE, P and Coh.

One file per metric; each turns prompts and answers into one value per answer,
independent of the order and the batching of the others. A failed response (no
answer inside the JSON contract) gets every metric's worst value without being
shown to a scorer (paper, section 4.1).
"""

import math
from collections.abc import Sequence

import numpy as np

from persodpo.metrics import METRICS
from persodpo.params import ScorersParams
from persodpo.records import Prompt, Response, Score
from persodpo.scorers.coherence import score_coherence
from persodpo.scorers.consistency import score_consistency
from persodpo.scorers.distance import load_word_vectors, score_distance
from persodpo.scorers.encoder import load_encoder
from persodpo.scorers.entailment import score_entailment
from persodpo.scorers.nli import NliHead


def score_responses(
    prompts: Sequence[Prompt], responses: Sequence[Response], params: ScorersParams
) -> list[Score]:
    """Score each response on each metric.

    Args:
        prompts: The prompts, in any order.
        responses: Responses to prompts among them, in any order.
        params: The scorers' models.

    Returns:
        One row per response, in the responses' order. A value is None where a
        metric can't be computed for a valid response.

    Raises:
        UserError: A scorer's model can't be found.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    valid = [response for response in responses if response.contract == "valid"]
    asked = [by_id[response.id] for response in valid]
    answers = [response.answer or "" for response in valid]
    encoder = load_encoder(params.encoder, params.encoder_revision, params.batch_size)
    nli = NliHead(params.nli_head, encoder)
    values = {
        "c": score_consistency(asked, answers, nli),
        "ue": score_entailment(asked, answers, nli),
        "p": score_distance(asked, answers, load_word_vectors(params.word_vectors)),
        "coh": score_coherence(asked, answers, encoder),
    }
    rows = iter(range(len(valid)))
    return [
        _row(response, values, next(rows) if response.contract == "valid" else None)
        for response in responses
    ]


def _row(response: Response, values: dict[str, np.ndarray], row: int | None) -> Score:
    scores = {
        key: metric.worst if row is None else float(values[key][row])
        for key, metric in METRICS.items()
    }
    return Score(
        id=response.id,
        model=response.model,
        raw=response.raw,
        valid=response.contract == "valid",
        words=response.words,
        **{key: None if math.isnan(value) else value for key, value in scores.items()},
    )
