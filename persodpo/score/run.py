"""All metrics of all responses of a model.

Several processes score a share of the responses each.
"""

import math
import sys
from collections.abc import Sequence

from persodpo import processes
from persodpo.errors import UserError
from persodpo.records import Prompt, Response, Score
from persodpo.score.kinds import declared_metrics
from persodpo.score.metric import Scorer, Values

# A value may be so far outside the metric's range, as a cosine of 1.0000001.
ROUNDING = 1e-6


def score_responses(
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    scorers: dict[str, Scorer],
    batch_tokens: int,
) -> list[Score]:
    """Score each response of one model on each metric.

    A failed response (no answer inside the JSON contract) gets every metric's worst
    value without being shown to a judge. How many valid ones can't be judged by a metric is
    written to standard error.

    Args:
        prompts: The prompts, in any order.
        responses: Responses to prompts among them, in any order.
        scorers: The metrics, by their keys.
        batch_tokens: So many tokens may be judged at once.

    Returns:
        One row per response, in the responses' order. A value is None where a metric
        can't be computed for a valid response.

    Raises:
        UserError: What stands behind a metric can't be found or used.
    """
    scores = processes.join(_score(prompts, processes.share(responses), scorers, batch_tokens))
    if processes.is_main():
        _warn_missing(scores, scorers)
    return scores


def _score(
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    scorers: dict[str, Scorer],
    batch_tokens: int,
) -> list[Score]:
    """Score responses in this process; see `score_responses`."""
    by_id = {prompt.id: prompt for prompt in prompts}
    strangers = [response.id for response in responses if response.id not in by_id]
    if strangers:
        raise UserError(
            f"the responses of {responses[0].model} are of other prompts than the sample (such as "
            f"{strangers[0]!r}); run the stage that made them again (dvc repro)."
        )
    valid = [response for response in responses if response.contract == "valid"]
    asked = [by_id[response.id] for response in valid]
    computed: dict[str, Values] = {}
    for key, scorer in scorers.items():
        where = f"params.yaml: scorers.{key}"
        computed[key] = scorer.values(where, asked, valid, batch_tokens)
        _refuse_strange(computed[key], len(valid), where, scorer)
    rows = zip(*computed.values(), strict=True)
    of_valid = (dict(zip(computed, row, strict=True)) for row in rows)
    worst: dict[str, float | None] = {
        key: metric.worst for key, metric in declared_metrics(scorers).items()
    }
    return [
        Score(
            id=response.id,
            model=response.model,
            sample=response.sample,
            contract=response.contract,
            answer=response.answer,
            values=next(of_valid) if response.contract == "valid" else worst,
        )
        for response in responses
    ]


def _refuse_strange(values: Values, wanted: int, where: str, scorer: Scorer) -> None:
    """What a new kind of metric may get wrong, told before it spoils a score."""
    if len(values) != wanted:
        raise UserError(f"{where} gave {len(values)} values for {wanted} answers.")
    low, high = scorer.lowest(), scorer.metric().high
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value)):
            raise UserError(f"{where} gave {value!r} for an answer; give a number, or None.")
        if value is not None and not low - ROUNDING <= value <= high + ROUNDING:
            raise UserError(
                f"{where} gave {value!r} for an answer, which is outside its metric's range from "
                f"{low:g} to {high:g}; correct the range, or the value."
            )


def _warn_missing(scores: Sequence[Score], scorers: dict[str, Scorer]) -> None:
    valid = [score for score in scores if score.contract == "valid"]
    for key, metric in declared_metrics(scorers).items():
        missing = sum(score.values[key] is None for score in valid)
        if missing:
            sys.stderr.write(
                f"{metric.label} can't be computed for {missing} of {len(valid)} valid responses\n"
            )
