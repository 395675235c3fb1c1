"""The pool: all models' responses with their sub-scores, joined and checked.

What the stages before left behind is trusted only as far as it agrees: files of
different runs, by a hand-run stage or a merge, would give pairs of nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from persodpo.errors import UserError
from persodpo.records import Evaluated, Prompt, Response, Score, read_rows


def read_pool(models: Sequence[str], prompts: Sequence[Prompt], artifacts: Path) -> pd.DataFrame:
    """Read the responses and scores of all models of the pool.

    Args:
        models: Keys of the models.
        prompts: The prompts that were answered.
        artifacts: The folder that has `responses/<model>.jsonl` and `scores/<model>.jsonl`.

    Returns:
        One row per response, with the columns of `evaluated_table`; `raw` is missing where a
        response has no text that a model ended by itself.

    Raises:
        UserError: A model's file is missing or has a bad row, responses and scores or
            responses and prompts are of different runs, a response is missing or stands
            there twice, or there are none.
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
    table = evaluated_table(rows)
    # A prompt that a server refused, or an answer that was lost in thoughts, has no text; it isn't
    # one that a model ended without a word, and must not be trained as such.
    table["raw"] = [None if _has_no_text(row.response) else row.response.raw for row in rows]
    return table


def _has_no_text(response: Response) -> bool:
    gave_nothing = response.finish_reason in ("refused", "content_filter", "length", "other")
    return gave_nothing and not response.raw.strip()


def evaluated_table(rows: Sequence[Evaluated]) -> pd.DataFrame:
    """Responses with their sub-scores as a table.

    Returns:
        One row per response: `id`, `model`, `raw`, `contract`, `answer`, `words`,
        `c`, `ue`, `p`, `coh` (NaN where a metric has no value), `valid`, whether the
        response keeps the JSON contract, and `cut`, whether it was cut at the most tokens.
    """
    fields = {"id", "model", "raw", "contract", "answer", "words"}
    responses = pd.DataFrame([row.response.model_dump(include=fields) for row in rows])
    metrics = ["c", "ue", "p", "coh"]
    values = [[getattr(row.score, metric) for metric in metrics] for row in rows]
    scores = pd.DataFrame(values, columns=metrics, dtype=float)
    valid = (responses["contract"] == "valid").astype(bool)
    cut = pd.Series([row.response.finish_reason == "length" for row in rows], dtype=bool)
    return pd.concat([responses, scores, valid.rename("valid"), cut.rename("cut")], axis="columns")


def _refuse_strangers(
    file: Path, model: str, responses: Sequence[Response], known: set[str]
) -> None:
    """Responses to prompts of another sample, of another model, given twice or not at all."""
    seen: set[str] = set()
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
        if response.id in seen:
            raise UserError(
                f"{file}: prompt {response.id!r} is answered twice; run dvc repro generate@{model}."
            )
        seen.add(response.id)
    if missing := known - seen:
        raise UserError(
            f"{file}: {len(missing)} prompts of artifacts/prompts/train.jsonl have no response, "
            f"such as {min(missing)!r}; run dvc repro generate@{model}."
        )


def _joined(
    file: Path, model: str, responses: Sequence[Response], scores: Sequence[Score]
) -> list[Evaluated]:
    """Each response with the score of its very answer."""
    by_id = {score.id: score for score in scores}
    for response in responses:
        score = by_id.get(response.id)
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
    return [Evaluated(response=response, score=by_id[response.id]) for response in responses]
