"""The backend `logged`: responses that somebody already generated and published.

The file is CSV with a header, or JSON lines (`.jsonl`). Its rows belong to the
prompts by a column with the prompts' ids or, without one, by their numbers. An answer that somebody
has taken out of the JSON contract is put into it again; an empty one stands for a failed response.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from persodpo.config.models import LoggedModel
from persodpo.errors import UserError
from persodpo.prompts import wrap_response
from persodpo.records import Answer, Prompt
from persodpo.tables import read_table, row_name, rows_of_prompts, text_values

# What stands before the row's number in the id of a published validation prompt (see
# persodpo.sample.draw).
VALID_PREFIX = "valid-"


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
            id twice or none, a text that is none, or seconds that are no number.
    """
    table = read_table(Path(model.file), f"params.yaml: models.{name}.file")
    section = f"models.{name}"
    prefix = "" if model.split == "train" else VALID_PREFIX
    table = rows_of_prompts(table, model.id_column, model.file, section, prompts, prefix)
    texts = text_values(table, model.text_column, model.file, f"{section}.text_column")
    if not model.wrapped:
        texts = [wrap_response(text) if text.strip() else "" for text in texts]
    seconds = _seconds(table, model, f"{section}.seconds_column")
    return [
        Answer(raw=raw, finish_reason="logged", seconds=time)
        for raw, time in zip(texts, seconds, strict=True)
    ]


def _seconds(table: pd.DataFrame, model: LoggedModel, key: str) -> list[float | None]:
    """Times as numbers; None where the file has none."""
    if model.seconds_column is None:
        return [None] * len(table)
    texts = text_values(table, model.seconds_column, model.file, key)
    numbers = pd.to_numeric(pd.Series(texts), errors="coerce").tolist()
    for row, (text, number) in enumerate(zip(texts, numbers, strict=True)):
        is_empty = text.strip().lower() in ("", "nan", "none", "null")
        if not (is_empty or 0 <= number < math.inf):
            raise UserError(
                f"{row_name(table, row, model.file)}, column {model.seconds_column!r}: {text!r} is "
                "no time in seconds; leave the field empty where it isn't known."
            )
    return [None if math.isnan(number) else number for number in numbers]
