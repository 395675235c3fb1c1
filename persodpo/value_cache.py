"""Values that were computed once and are kept on disk for later runs, outside the DVC graph."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from diskcache import Cache, Timeout

from persodpo.errors import UserError


@contextlib.contextmanager
def open_value_cache(folder: Path, contents: str) -> Iterator[Cache]:
    """Open a folder of computed values; safe for several processes at once.

    Args:
        folder: Made if it is missing.
        contents: What the values are, for messages.

    Raises:
        UserError: The folder can't be read or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: the kept {contents} have no place there ({error.strerror}); make it "
            "writable."
        ) from error
    try:
        # nothing is ever thrown out to make room
        with Cache(str(folder), eviction_policy="none", cull_limit=0) as cache:
            yield cache
    except (sqlite3.Error, Timeout) as error:
        raise UserError(
            f"{folder}: the kept {contents} can't be read or written ({error}); if the file is "
            "damaged, delete the folder, and they are computed again."
        ) from error
