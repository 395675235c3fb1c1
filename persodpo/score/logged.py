"""Metric values that somebody already computed and published, for a replay.

Each model of the pool has a file, CSV with a header or JSON lines (`.jsonl`), with one
row per prompt: found by a column with the prompts' ids or, without one, by the row's number.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from persodpo.config.scorers import LoggedFiles
from persodpo.errors import UserError
from persodpo.records import Prompt
from persodpo.score.metric import Values
from persodpo.tables import read_table, refuse_missing_column, rows_of_prompts


def read_values(
    model: str,
    column: str,
    logged: LoggedFiles,
    prompts: Sequence[Prompt],
    low: float,
    high: float,
) -> Values:
    """Find the published values of a metric.

    Args:
        model: The key of the model whose answers were judged.
        column: The column with the metric's values.
        logged: Where the files are.
        prompts: The prompts of the answers whose values are wanted.
        low: The lowest value there can be.
        high: The highest value there can be.

    Returns:
        One value per answer; None where the file has none.

    Raises:
        UserError: There is no file for the model or it is no table, lacks a column or a
            prompt, or has a value that is no number or out of range.
    """
    if model not in logged.files:
        raise UserError(
            f"params.yaml: scorers.logged.files has no file for {model!r}, so the column "
            f"{column!r} has no values for its answers; name one, or take another scorer."
        )
    file = logged.files[model]
    table = read_table(Path(file), f"params.yaml: scorers.logged.files.{model}")
    refuse_missing_column(table, column, file, "params.yaml, below scorers,")
    table = rows_of_prompts(table, logged.id_column, file, "scorers.logged", prompts)
    given = table[column].astype(str).str.strip()
    numbers = pd.to_numeric(given, errors="coerce").astype(float)
    empty = table[column].isna() | given.str.lower().isin(["", "nan", "none"])
    wrong = ~empty & ~numbers.between(low, high)
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(
            f"{file}, the row of prompt {prompts[row].id!r}: {column!r} is {given.iloc[row]!r}, "
            f"which is no number from {low:g} to {high:g}."
        )
    return [None if none else float(n) for n, none in zip(numbers, empty, strict=True)]
