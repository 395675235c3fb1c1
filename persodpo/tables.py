"""Tables that users bring: CSV with a header, tab-separated (.tsv), Excel, JSON lines or list.

Used for published responses and metric values, and for sentence pairs.
"""

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd

from persodpo.errors import UserError
from persodpo.records import Prompt


def read_table(path: Path, key: str) -> pd.DataFrame:
    """Read a table; of a text file every value is a text, and only an empty field is missing.

    Args:
        path: The file; its suffix tells its format.
        key: The file and the parameter that name it, for messages.

    Raises:
        UserError: The file is missing or no table.
    """
    try:
        if path.suffix in (".json", ".jsonl"):
            # Dialogue NLI's .jsonl files hold one list
            with path.open("rb") as file:
                lines = not file.read(1024).lstrip().startswith(b"[")
            return pd.read_json(path, lines=lines, dtype=False)
        if path.suffix == ".xlsx":
            return pd.read_excel(path, dtype=str, keep_default_na=False)
        separator = "\t" if path.suffix == ".tsv" else ","
        # a model may well answer "null" or "NA"
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError(f"{key} is {str(path)!r}, which doesn't exist.") from error
    except (ValueError, TypeError, OSError, BadZipFile) as error:  # pandas' own are ValueErrors
        raise UserError(f"{path}: not a table ({error}); give CSV, .xlsx or .jsonl.") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path}: not a table (its rows have more fields than its header).")
    return table


def rows_of_prompts(
    table: pd.DataFrame, id_column: str | None, file: str, key: str, prompts: Sequence[Prompt]
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

    Returns:
        One row per prompt, in the prompts' order.

    Raises:
        UserError: There is no such column, or an id stands there twice or is missing.
    """
    if id_column is not None and id_column not in table.columns:
        raise UserError(
            f"{file}: there is no column {id_column!r}, which {key} names; "
            f"the columns there are {', '.join(map(str, table.columns))}."
        )
    ids = table.index if id_column is None else table[id_column]
    table = table.set_index(ids.astype(str))
    twice = table.index[table.index.duplicated()]
    if len(twice):
        raise UserError(f"{file}: the id {twice[0]!r} stands there twice; keep one of its rows.")
    missing = [prompt.id for prompt in prompts if prompt.id not in table.index]
    if missing:
        hint = "" if id_column else f"; without {key}.id_column a row's number is its prompt's id"
        raise UserError(
            f"{file}: there is no row for prompt {missing[0]!r} ({len(missing)} prompts have "
            f"none){hint}; sample other prompts or take the model out."
        )
    return table.loc[[prompt.id for prompt in prompts]]
