"""The pool: all models' responses with their sub-scores, joined and checked.

What the stages before left behind is trusted only as far as it agrees: files of
different runs, by a hand-run stage or a merge, would give pairs of nothing.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from persodpo.errors import UserError
from persodpo.records import Evaluated, Prompt, Response, Score, read_rows


def read_pool(
    models: Sequence[str], prompts: Sequence[Prompt], metrics: Collection[str], artifacts: Path
) -> pd.DataFrame:
    """Read the responses and scores of all models of the pool.

    Args:
        models: Keys of the models.
        prompts: The prompts that were answered.
        metrics: The metrics that are looked at.
        artifacts: The folder that has `responses/<model>.jsonl` and `scores/<model>.jsonl`.

    Returns:
        One row per response, with the columns of `evaluated_table`; `raw` is missing where a
        response has no text that a model ended by itself.

    Raises:
        UserError: A model's file is missing or has a bad row, responses and scores or
            responses and prompts are of different runs, a response or a metric is missing, a
            response stands there twice, or there are none.
    """
    known = {prompt.id for prompt in prompts}
    rows: list[Evaluated] = []
    for model in models:
        file = artifacts / f"responses/{model}.jsonl"
        responses = read_rows(file, Response)
        scores = read_rows(artifacts / f"scores/{model}.jsonl", Score)
        _refuse_strangers(file, model, responses, known)
        rows += _joined(artifacts / f"scores/{model}.jsonl", model, responses, scores)
    if not rows:
        raise UserError(
            f"{artifacts}/prompts/train.jsonl has no prompts, so the pool is empty; run dvc repro."
        )
    table = evaluated_table(rows, metrics)
    # A prompt that a server refused, or an answer that was lost in thoughts, has no text; it isn't
    # one that a model ended without a word, and must not be trained as such.
    table["raw"] = [None if _has_no_text(row.response) else row.response.raw for row in rows]
    return table


def _has_no_text(response: Response) -> bool:
    gave_nothing = response.finish_reason in ("refused", "content_filter", "length", "other")
    return gave_nothing and not response.raw.strip()


def evaluated_table(rows: Sequence[Evaluated], metrics: Collection[str]) -> pd.DataFrame:
    """Responses with their values of some metrics as a table.

    Returns:
        One row per response: `id`, `model`, `sample`, `raw`, `contract`, `answer`, `words`,
        a column per metric (NaN where it has no value), `valid`, whether the
        response keeps the JSON contract, and `cut`, whether it was cut at the most tokens.

    Raises:
        UserError: A row has no such metric.
    """
    fields = {"id", "model", "sample", "raw", "contract", "answer", "words"}
    responses = pd.DataFrame([row.response.model_dump(include=fields) for row in rows])
    for row in rows:
        if missing := set(metrics) - row.score.values.keys():
            raise UserError(
                f"The scores of {row.score.model} have no value of {min(missing)}, so they were "
                "made by other scorers; run dvc repro."
            )
    values = [[row.score.values[metric] for metric in metrics] for row in rows]
    scores = pd.DataFrame(values, columns=list(metrics), dtype=float)
    valid = (responses["contract"] == "valid").astype(bool)
    cut = pd.Series([row.response.finish_reason == "length" for row in rows], dtype=bool)
    return pd.concat([responses, scores, valid.rename("valid"), cut.rename("cut")], axis="columns")


def _refuse_strangers(
    file: Path, model: str, responses: Sequence[Response], known: set[str]
) -> None:
    """Responses to prompts of another sample, of another model, given twice or not at all."""
    seen: dict[str, set[int]] = {}
    for response in responses:
        if response.model != model:
            raise UserError(
                f"{file}: it has responses of {response.model!r}; run dvc repro generate@{model}."
            )
        if response.id not in known:
            raise UserError(
                f"{file}: prompt {response.id!r} isn't in artifacts/prompts/train.jsonl, so the "
                f"responses are of another run; run dvc repro generate@{model}."
            )
        if response.sample in seen.setdefault(response.id, set()):
            raise UserError(
                f"{file}: prompt {response.id!r} is answered twice; run dvc repro generate@{model}."
            )
        seen[response.id].add(response.sample)
    of_all = set().union(*seen.values())
    if short := [id_ for id_, samples in seen.items() if samples != of_all]:
        raise UserError(
            f"{file}: prompt {short[0]!r} has fewer samples than others; "
            f"run dvc repro generate@{model}."
        )
    if missing := known - seen.keys():
        raise UserError(
            f"{file}: {len(missing)} prompts of artifacts/prompts/train.jsonl have no response, "
            f"such as {min(missing)!r}; run dvc repro generate@{model}."
        )


def _joined(
    file: Path, model: str, responses: Sequence[Response], scores: Sequence[Score]
) -> list[Evaluated]:
    """Each response with the score of its very answer."""
    by_id = {(score.id, score.sample): score for score in scores}
    for response in responses:
        score = by_id.get((response.id, response.sample))
        if score is None or (score.model, score.contract, score.answer) != (
            response.model,
            response.contract,
            response.answer,
        ):
            raise UserError(
                f"{file}: it has no score for the answer to prompt {response.id!r} in "
                f"artifacts/responses/{model}.jsonl, so the scores are of another run; "
                f"run dvc repro score@{model}."
            )
    if len(scores) != len(responses):
        raise UserError(
            f"{file}: it has {len(scores)} scores for {len(responses)} responses, so the scores "
            f"are of another run; run dvc repro score@{model}."
        )
    return [
        Evaluated(response=response, score=by_id[response.id, response.sample])
        for response in responses
    ]
