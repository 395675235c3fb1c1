"""The backend `logged`: responses that somebody already generated and published.

The file is CSV with a header, or JSON lines (`.jsonl`). Its rows belong to the
prompts by a column with the prompts' ids or, without one, by their numbers.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from persodpo.errors import UserError
from persodpo.model_params import LoggedModel
from persodpo.records import Answer, Prompt
from persodpo.tables import read_table, rows_of_prompts


def read_logged(name: str, model: LoggedModel, prompts: Sequence[Prompt]) -> list[Answer]:
    """Find each prompt's response in a file.

    Args:
        name: The model's key in `params.yaml`.
        model: Its section there.
        prompts: What was answered.

    Returns:
        One answer per prompt, in the prompts' order.

    Raises:
        UserError: The file is missing or no table, lacks a column or a prompt, has an
            id twice, or seconds that are no number.
    """
    table = read_table(Path(model.file), f"params.yaml: models.{name}.file")
    for column in (model.text_column, model.seconds_column):
        if column is not None and column not in table.columns:
            raise UserError(
                f"{model.file}: there is no column {column!r}, which models.{name} names; "
                f"the columns there are {', '.join(map(str, table.columns))}."
            )
    table = rows_of_prompts(table, model.id_column, model.file, f"models.{name}", prompts)
    texts = table[model.text_column].fillna("").astype(str)
    seconds = _seconds(table, model) if model.seconds_column else [None] * len(table)
    return [
        Answer(raw=raw, finish_reason="logged", seconds=value)
        for raw, value in zip(texts, seconds, strict=True)
    ]


def _seconds(table: pd.DataFrame, model: LoggedModel) -> list[float]:
    try:
        return [float(value) for value in table[model.seconds_column]]
    except (TypeError, ValueError) as error:
        raise UserError(f"{model.file}, column {model.seconds_column}: {error}.") from error
