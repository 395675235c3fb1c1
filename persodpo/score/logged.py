"""Metric values that somebody already computed and published, for a replay.

Each model of the pool has a file, CSV with a header or JSON lines (`.jsonl`), with one
row per prompt: found by a column with the prompts' ids or, without one, by the row's number.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import pandas as pd
from pydantic import Field, model_validator

from persodpo.config.sections import Key, Text
from persodpo.errors import UserError
from persodpo.records import Prompt
from persodpo.score.metric import Metric, Prompts, Responses, Scorer, Values
from persodpo.tables import read_table, refuse_missing_column, rows_of_prompts


class Logged(Scorer):
    """A metric whose values somebody published.

    Attributes:
        column: The column with the values, in each file.
        files: A file per model of the pool.
        id_column: The column with the prompts' ids; None finds rows by their number.
        label, low, high, worst: See `Metric`.
        lowest_published: The lowest value that there may be, if that is below `low`, as which it
            then counts; else None.
    """

    kind: Literal["logged"]
    can_be_asked: ClassVar[bool] = False
    column: Text
    files: Annotated[dict[Key, Text], Field(min_length=1)]
    id_column: Text | None
    label: Text
    low: float
    high: float
    worst: float
    lowest_published: float | None

    @model_validator(mode="after")
    def _check_lowest(self) -> Self:
        if self.lowest_published is not None and self.lowest_published > self.low:
            raise ValueError(
                f"lowest_published is {self.lowest_published:g}, above low, which is "
                f"{self.low:g}; lower it, or set it to null"
            )
        return self

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        return Metric(f"{self.label} (logged)", self.low, self.high, self.worst, version=1)

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`.

        Raises:
            UserError: There is no file for the model or it is no table, lacks a column or a
                prompt, or has a value that is no number or out of range.
        """
        if not responses:
            return []
        model = responses[0].model
        if model not in self.files:
            raise UserError(
                f"{key}.files has no file for {model!r}, so the column {self.column!r} has no "
                "values for its answers; name one, or take another kind of metric."
            )
        file = self.files[model]
        table = read_table(Path(file), f"{key}.files.{model}")
        refuse_missing_column(table, self.column, file, f"{key}.column")
        table = rows_of_prompts(table, self.id_column, file, key, prompts)
        return _numbers(table[self.column], prompts, file, self.lowest(), self.high)

    def lowest(self) -> float:
        """See `Scorer.lowest`."""
        return self.low if self.lowest_published is None else self.lowest_published

    def paths(self) -> list[str]:
        """See `Scorer.paths`."""
        return list(self.files.values())


def _numbers(
    column: pd.Series, prompts: Sequence[Prompt], file: str, low: float, high: float
) -> Values:
    """One value per prompt; None where the file has none."""
    given = column.astype(str).str.strip()
    numbers = pd.to_numeric(given, errors="coerce").astype(float)
    empty = column.isna() | given.str.lower().isin(["", "nan", "none"])
    wrong = ~empty & ~numbers.between(low, high)
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(
            f"{file}, the row of prompt {prompts[row].id!r}: {column.name!r} is "
            f"{given.iloc[row]!r}, which is no number from {low:g} to {high:g}."
        )
    return [None if none else float(n) for n, none in zip(numbers, empty, strict=True)]
