"""The dialogues of a file, whatever its format: one reader per suffix, each in its own module."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from persodpo.errors import UserError
from persodpo.sample.blended import read_blended
from persodpo.sample.convai2 import read_convai2
from persodpo.sample.dialogue import Dialogue, describe_place
from persodpo.sample.focus import read_focus
from persodpo.sample.plain import read_plain
from persodpo.sample.published import read_published


def read_dialogues(path: Path, row_prefix: str = "") -> list[Dialogue]:
    """Read all dialogues of a file.

    Args:
        path: `.json` is FoCUS's format or Blended Skill Talk's, `.jsonl` the plain one, `.txt`
            ConvAI2's, `.csv` the published prompts.
        row_prefix: Stands before a dialogue's number where that is its id.

    Raises:
        UserError: The file is missing, cut off, in another format or encoding, or a
            dialogue lacks a persona, turns or an answer, or repeats an id. The
            message names the file and the dialogue.
    """
    readers: dict[str, Callable[[Path, str], Iterator[Dialogue]]] = {
        ".json": partial(_read_json, row_prefix),
        ".jsonl": read_plain,
        ".txt": partial(read_convai2, row_prefix),
        ".csv": partial(read_published, row_prefix),
    }
    if path.suffix not in readers:
        raise UserError(
            f"{path}: unknown kind of dialogue file; name it .json (FoCUS or Blended Skill Talk), "
            ".jsonl (plain), .txt (ConvAI2) or .csv (published prompts)."
        )
    text = _read_utf8(path)
    dialogues = list(readers[path.suffix](path, text))
    if not dialogues:
        raise UserError(f"{path}: the file has no dialogues.")
    id_, count = Counter(dialogue.id for dialogue in dialogues).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{path}, dialogue {id_!r}: {count} dialogues have this id; give each its own."
        )
    return dialogues


def _read_json(row_prefix: str, path: Path, text: str) -> Iterator[Dialogue]:
    """The two data sets in one JSON document: Blended Skill Talk's is a list, FoCUS's an object."""
    if text.lstrip().startswith("["):
        return read_blended(row_prefix, path, text)
    return read_focus(path, text)


def _read_utf8(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: there is no such file; check sample.train_file and sample.valid_file "
            "in params.yaml (data/README.md says where FoCUS's files come from)."
        ) from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}).") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = data[: error.start].decode("utf-8-sig", errors="ignore")
        raise UserError(
            f"{path}, {describe_place(start)}: byte {error.start} is not UTF-8; "
            "save the file in the encoding UTF-8."
        ) from error
