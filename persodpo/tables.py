"""Tables that users bring: CSV with a header, tab-separated (.tsv), Excel, JSON lines or list.

Used for published responses and metric values, and for sentence pairs.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import pandas as pd

from persodpo.errors import UserError
from persodpo.records import Prompt

# What stands in the place of an id where there is none.
_NO_ID = ("", "nan", "none", "null")


def read_table(path: Path, key: str) -> pd.DataFrame:
    """Read a table; of a text file every value is a text, and only an empty field is missing.

    A byte order mark is passed over in every format. JSON keeps its own types.

    Args:
        path: The file; its suffix tells its format.
        key: The file and the parameter that name it, for messages.

    Raises:
        UserError: The file is missing or no table.
    """
    try:
        suffix = path.suffix.lower()
        if suffix in (".json", ".jsonl"):
            return _read_json(path)
        if suffix == ".xlsx":
            return pd.read_excel(path, dtype=str, keep_default_na=False)
        table = _read_text(path, "\t" if suffix == ".tsv" else ",")
    except FileNotFoundError as error:
        raise UserError(f"{key} is {str(path)!r}, which doesn't exist.") from error
    except (ValueError, TypeError, KeyError, OSError, RecursionError, BadZipFile) as error:
        raise UserError(f"{path}: not a table ({error}); give CSV, .xlsx or .jsonl.") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: not a table (its rows have more fields than its header).")
    return table


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    """CSV or TSV; a blank line is an empty value where there is one column, else it is none."""

    def read(**options: Any) -> pd.DataFrame:
        # a model may well answer "null" or "NA"
        table: pd.DataFrame = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", **options
        )
        return table

    if len(read(nrows=0).columns) > 1:
        return read()
    return read(skip_blank_lines=False).fillna("")


def _read_json(path: Path) -> pd.DataFrame:
    """One list of objects, as Dialogue NLI's .jsonl files are, or an object a line."""
    text = path.read_text(encoding="utf-8-sig")
    if text.lstrip().startswith("["):
        rows = json.loads(text)
    else:
        # not splitlines(): it also splits at characters that may stand inside a JSON text
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number} is no object")
    # as objects, or pandas would make 1 and 2 floats where a third row has none
    return pd.DataFrame(rows, dtype=object)


def text_values(table: pd.DataFrame, column: str, file: str, key: str) -> list[str]:
    """The texts of a column; where there is none, an empty one.

    Args:
        table: The rows, by their prompts' ids or by their numbers.
        column: One of its columns.
        file: Where the table comes from, for messages.
        key: The parameter that names the column, for messages.

    Raises:
        UserError: There is no such column, or a field holds an object, a list or a truth value.
    """
    refuse_missing_column(table, column, file, key)
    return [
        _text(value, f"{row_name(table, row, file)}, column {column!r}")
        for row, value in enumerate(table[column])
    ]


def refuse_missing_column(table: pd.DataFrame, column: str, file: str, key: str) -> None:
    """Refuse a table without a column.

    Raises:
        UserError: It has none; the message names those that it has.
    """
    if column not in table.columns:
        raise UserError(
            f"{file}: there is no column {column!r}, which {key} names; "
            f"the columns there are {', '.join(map(str, table.columns))}."
        )


def row_name(table: pd.DataFrame, row: int, file: str) -> str:
    """How a message names a row: by its prompt, or by its number in the file."""
    if isinstance(table.index, pd.RangeIndex):
        return f"{file}, row {row + 1}"
    return f"{file}, the row of prompt {table.index[row]!r}"


def _text(value: Any, place: str) -> str:
    """A field as a text: a number as people write it, 7 and not 7.0."""
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, bool | dict | list):
        shown = json.dumps(value, ensure_ascii=False)[:60]
        raise UserError(f"{place}: a text is wanted, not {shown}.")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).encode("utf-8", "replace").decode()  # half a surrogate pair can't be stored


def rows_of_prompts(
    table: pd.DataFrame,
    id_column: str | None,
    file: str,
    key: str,
    prompts: Sequence[Prompt],
    prefix: str = "",
) -> pd.DataFrame:
    """Find each prompt's row.

    Args:
        table: The rows.
        id_column: The column with the prompts' ids; None if a row's number, from 0, is its
            prompt's id. Rows are never matched by the order of the prompts, which is
            that of the draw, not of a file.
        file: Where the table comes from, for messages.
        key: The section of params.yaml that names it, for messages.
        prompts: The prompts.
        prefix: What stands before a row's number in its prompt's id, if `id_column` is None.

    Returns:
        One row per prompt, in the prompts' order.

    Raises:
        UserError: There is no such column, a row has no id, or an id stands there twice or is
            missing.
    """
    if id_column is None:
        ids = [f"{prefix}{number}" for number in range(len(table))]
    else:
        ids = [text.strip() for text in text_values(table, id_column, file, f"{key}.id_column")]
        prompt_ids = {prompt.id for prompt in prompts}
        empty = [i for i, id_ in enumerate(ids) if id_.lower() in _NO_ID and id_ not in prompt_ids]
        if empty:
            raise UserError(
                f"{row_name(table, empty[0], file)}: its {id_column!r}, the id of its prompt, "
                "is empty; fill it in, or take the row out."
            )
        # 7.0 is what spreadsheets make of 7
        ids = [
            id_.removesuffix(".0")
            if id_ not in prompt_ids and re.fullmatch(r"\d+\.0", id_)
            else id_
            for id_ in ids
        ]
    table = table.set_index(pd.Index(ids, dtype=object))
    repeated = table.index[table.index.duplicated()]
    if len(repeated):
        raise UserError(f"{file}: the id {repeated[0]!r} stands there twice; keep one of its rows.")
    missing = [prompt.id for prompt in prompts if prompt.id not in table.index]
    if missing:
        hint = "" if id_column else f"; without {key}.id_column a row's number is its prompt's id"
        raise UserError(
            f"{file}: there is no row for prompt {missing[0]!r} ({len(missing)} prompts have "
            f"none){hint}; sample other prompts or take the model out."
        )
    return table.loc[[prompt.id for prompt in prompts]]
