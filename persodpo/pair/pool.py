"""The pool: all models' responses with their sub-scores, joined and checked.

What the stages before left behind is trusted only as far as it agrees: files of
different runs, by a hand-run stage or a merge, would give pairs of nothing.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

import pandas as pd

from persodpo.errors import UserError
from persodpo.records import (
    Evaluated,
    Prompt,
    Response,
    Score,
    atomic_file,
    iterate_rows,
    read_rows,
)

# So many responses are objects, or lines of text, at once.
AT_ONCE = 1_000


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
    tables = []
    for model in models:
        rows = _evaluated(model, known, artifacts)
        # an object takes many times the memory of a table's row
        while batch := list(islice(rows, AT_ONCE)):
            table = evaluated_table(batch, metrics)
            # A prompt that a server refused, or an answer that was lost in thoughts, has no text;
            # it isn't one that a model ended without a word, and must not be trained as such.
            table["raw"] = [_text(row.response) for row in batch]
            tables.append(table)
    if not tables:
        raise UserError(
            f"{artifacts}/prompts/train.jsonl has no prompts, so the pool is empty; run dvc repro."
        )
    # a part of the rows without any text has another dtype than the others
    return pd.concat(tables, ignore_index=True).infer_objects()


def _text(response: Response) -> str | None:
    gave_nothing = response.finish_reason in ("refused", "content_filter", "length", "other")
    return None if gave_nothing and not response.raw.strip() else response.raw


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


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as JSON lines, atomically, a part of its rows at a time."""
    with atomic_file(path) as file:
        for start in range(0, len(table), AT_ONCE):
            lines = table.iloc[start : start + AT_ONCE].to_json(
                orient="records", lines=True, force_ascii=False, double_precision=15
            )
            file.write(lines.encode("utf-8"))


def _evaluated(model: str, known: set[str], artifacts: Path) -> Iterator[Evaluated]:
    """A model's responses, each with the score of its very answer."""
    file = artifacts / f"scores/{model}.jsonl"
    responses = _responses(artifacts / f"responses/{model}.jsonl", model, known)
    # where both files are missing, the responses' is the one to name
    first = list(islice(responses, 1))
    scores = read_rows(file, Score)  # in whatever order, so all of the model at once
    by_id = {(score.id, score.sample): score for score in scores}
    count, without_score = 0, None
    for response in chain(first, responses):
        count += 1
        score = by_id.get((response.id, response.sample))
        if score is None or (score.model, score.contract, score.answer) != (
            response.model,
            response.contract,
            response.answer,
        ):
            without_score = without_score or response
        else:
            yield Evaluated(response=response, score=score)
    if without_score is not None:
        raise UserError(
            f"{file}: it has no score for the answer to prompt {without_score.id!r} in "
            f"artifacts/responses/{model}.jsonl, so the scores are of another run; "
            f"run dvc repro score@{model}."
        )
    if len(scores) != count:
        raise UserError(
            f"{file}: it has {len(scores)} scores for {count} responses, so the scores "
            f"are of another run; run dvc repro score@{model}."
        )


def _responses(file: Path, model: str, known: set[str]) -> Iterator[Response]:
    """A model's responses; none of another model or run, none twice, none too few."""
    seen: dict[str, set[int]] = {}
    for response in iterate_rows(file, Response):
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
        yield response
    _refuse_gaps(file, model, known, seen)


def _refuse_gaps(file: Path, model: str, known: set[str], seen: Mapping[str, set[int]]) -> None:
    """Prompts that have no response, or fewer than others."""
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
