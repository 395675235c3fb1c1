"""The backend `logged`: responses that somebody already generated and published.

The file is CSV with a header, or JSON lines (`.jsonl`). Its rows belong to the
prompts by a column with the prompts' ids or, without one, by their order.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from persodpo.errors import UserError
from persodpo.model_params import LoggedModel
from persodpo.records import Answer, Prompt


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
            id twice, or without ids another number of rows than there are prompts.
    """
    table = _read_table(Path(model.file), f"models.{name}.file")
    for column in (model.text_column, model.id_column, model.seconds_column):
        if column is not None and column not in table.columns:
            raise UserError(
                f"{model.file}: there is no column {column!r}, which models.{name} names; "
                f"the columns there are {', '.join(map(str, table.columns))}."
            )
    if model.id_column is None:
        if len(table) != len(prompts):
            raise UserError(
                f"{model.file}: {len(table)} rows, but {len(prompts)} prompts; without "
                f"models.{name}.id_column, row k must answer prompt k."
            )
    else:
        table = _by_id(table, model.id_column, model.file, prompts)
    texts = table[model.text_column].fillna("").astype(str)
    seconds = _seconds(table, model) if model.seconds_column else [None] * len(table)
    return [
        Answer(raw=raw, finish_reason="logged", seconds=value)
        for raw, value in zip(texts, seconds, strict=True)
    ]


def _read_table(path: Path, key: str) -> pd.DataFrame:
    try:
        if path.suffix == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False, convert_dates=False)
        # nothing but an empty field is missing: a model may well answer "null" or "NA"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError(f"params.yaml: {key} is {str(path)!r}, which doesn't exist.") from error
    except (ValueError, TypeError, OSError) as error:  # pandas' own errors are among these
        raise UserError(f"{path}: not a table ({error}); give CSV or .jsonl.") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: not a table (its rows have more fields than its header).")
    return table


def _by_id(table: pd.DataFrame, column: str, file: str, prompts: Sequence[Prompt]) -> pd.DataFrame:
    """One row per prompt, in the prompts' order."""
    table = table.set_index(table[column].astype(str))
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise UserError(f"{file}: the id {twice[0]!r} stands there twice; keep one of its rows.")
    missing = [prompt.id for prompt in prompts if prompt.id not in table.index]
    if missing:
        raise UserError(
            f"{file}: there is no row for prompt {missing[0]!r} ({len(missing)} prompts have "
            "none); sample other prompts or take the model out."
        )
    return table.loc[[prompt.id for prompt in prompts]]


def _seconds(table: pd.DataFrame, model: LoggedModel) -> list[float]:
    try:
        return [float(value) for value in table[model.seconds_column]]
    except (TypeError, ValueError) as error:
        raise UserError(f"{model.file}, column {model.seconds_column}: {error}.") from error
