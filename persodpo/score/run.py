"""All metrics of all responses of a model, each different input judged once.

Several processes score a share of the responses each.
"""

import sys
from collections.abc import Mapping, Sequence

from persodpo import processes
from persodpo.config.scorers import (
    EmbeddingCoherence,
    LoggedMetric,
    NliModel,
    ScorersParams,
)
from persodpo.models.locations import identity
from persodpo.records import Prompt, Response, Score
from persodpo.score import declared_metrics
from persodpo.score.coherence import score_embedding_coherence, score_unieval_coherence
from persodpo.score.consistency import score_consistency
from persodpo.score.distance import score_distance
from persodpo.score.entailment import score_entailment
from persodpo.score.judges import embeddings, nli, unieval, word_vectors
from persodpo.score.judges.judgements import cached_judge
from persodpo.score.logged import read_values
from persodpo.score.metric import Judge, Metric, Values


def score_responses(
    prompts: Sequence[Prompt], responses: Sequence[Response], params: ScorersParams
) -> list[Score]:
    """Score each response of one model on each metric.

    A failed response (no answer inside the JSON contract) gets every metric's worst
    value without being shown to a judge. How many valid ones can't
    be judged by a metric is told on standard error.

    Args:
        prompts: The prompts, in any order.
        responses: Responses to prompts among them, in any order.
        params: What stands behind the metrics.

    Returns:
        One row per response, in the responses' order. A value is None where a metric
        can't be computed for a valid response.

    Raises:
        UserError: What stands behind a metric can't be found or used.
    """
    scores = processes.join(_score(prompts, processes.share(responses), params))
    if processes.is_main():
        _tell_missing(scores, declared_metrics(params))
    return scores


def _score(
    prompts: Sequence[Prompt], responses: Sequence[Response], params: ScorersParams
) -> list[Score]:
    """Score responses in this process; see `score_responses`."""
    by_id = {prompt.id: prompt for prompt in prompts}
    valid = [response for response in responses if response.contract == "valid"]
    asked = [by_id[response.id] for response in valid]
    answers = [response.answer or "" for response in valid]
    metrics = declared_metrics(params)
    computed = _computed(asked, answers, params)
    for key, metric in metrics.items():
        section = getattr(params, key)
        if isinstance(section, LoggedMetric) and params.logged and responses:
            low = metric.low if metric.lowest_published is None else metric.lowest_published
            computed[key] = read_values(
                responses[0].model, section.column, params.logged, asked, low, metric.high
            )
    rows = iter(range(len(valid)))
    return [
        _row(response, metrics, computed, next(rows) if response.contract == "valid" else None)
        for response in responses
    ]


def _tell_missing(scores: Sequence[Score], metrics: Mapping[str, Metric]) -> None:
    valid = [score for score in scores if score.contract == "valid"]
    for key, metric in metrics.items():
        missing = sum(getattr(score, key) is None for score in valid)
        if missing:
            sys.stderr.write(
                f"{metric.label} can't be computed for {missing} of {len(valid)} valid responses\n"
            )


def _computed(
    prompts: Sequence[Prompt], answers: Sequence[str], params: ScorersParams
) -> dict[str, Values]:
    """The values of each metric that isn't logged."""
    values: dict[str, Values] = {}
    if isinstance(params.c, NliModel):
        judge = _nli_judge(params.c, params.batch_tokens, "params.yaml: scorers.c.model")
        values["c"] = score_consistency(prompts, answers, judge, params.c.aggregate)
    if isinstance(params.ue, NliModel):
        judge = _nli_judge(params.ue, params.batch_tokens, "params.yaml: scorers.ue.model")
        values["ue"] = score_entailment(prompts, answers, judge, params.ue.second_premise)
    if not isinstance(params.p, LoggedMetric):
        values["p"] = score_distance(prompts, answers, _word_vector_judge(params.p.vectors))
    coh = params.coh
    if not isinstance(coh, LoggedMetric):
        score = (
            score_embedding_coherence
            if isinstance(coh, EmbeddingCoherence)
            else score_unieval_coherence
        )
        values["coh"] = score(prompts, answers, _coherence_judge(params))
    return values


def _nli_judge(section: NliModel, batch_tokens: int, key: str) -> Judge:
    """C and UE share judgements where they share a model."""
    model = (section.model, section.revision)
    return cached_judge(
        {"judge": "nli", "version": nli.VERSION, "labels": section.labels, **identity(*model, key)},
        lambda: nli.NliJudge(*model, section.labels, batch_tokens, key),
    )


def _word_vector_judge(vectors: str) -> Judge:
    return cached_judge(
        {
            "judge": "word vectors",
            "version": word_vectors.VERSION,
            "weights": word_vectors.vectors_hash(vectors),
        },
        lambda: word_vectors.WordVectorJudge(word_vectors.load_word_vectors(vectors)),
    )


def _coherence_judge(params: ScorersParams) -> Judge:
    coh = params.coh
    assert not isinstance(coh, LoggedMetric)
    key, model = "params.yaml: scorers.coh.model", (coh.model, coh.revision)
    module, load = (
        (embeddings, embeddings.EmbeddingJudge)
        if isinstance(coh, EmbeddingCoherence)
        else (unieval, unieval.UniEvalJudge)
    )
    return cached_judge(
        {"judge": coh.scorer, "version": module.VERSION, **identity(*model, key)},
        lambda: load(*model, params.batch_tokens, key),
    )


def _row(
    response: Response, metrics: dict[str, Metric], computed: dict[str, Values], row: int | None
) -> Score:
    scores = {
        key: metric.worst if row is None else computed[key][row] for key, metric in metrics.items()
    }
    return Score(
        id=response.id,
        model=response.model,
        contract=response.contract,
        answer=response.answer,
        **scores,
    )
