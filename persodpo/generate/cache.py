"""Answers kept by request, outside the DVC graph, so that no call is paid twice.

Below `.cache/answers` each process that calls a model appends to a JSON-lines file
of its own, one line per answer with the whole request beside it: grep, jq and rsync
work on them, and no process writes where another does. A line is handed to the
operating system in one piece before its connection asks anything else, so a killed
process loses no answer that it received. (A power cut can take the last seconds'
answers; half a line that it leaves is passed over.) An entry is served only if it
holds the very request that is asked, or one that differs from it in the limit on tokens alone
and whose answer ended by itself below both limits: a higher cap asks for cut answers only.

Errors are never cached: only what a model said is.
"""

import contextlib
import datetime
import fcntl
import hashlib
import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from persodpo.errors import UserError
from persodpo.generate.request import Request
from persodpo.records import Answer, FinishReason, Row, atomic_file, describe
from persodpo.runner import cache_folder

_KEY_FIRST = re.compile(rb'\{"key":"([0-9a-f]{64})"')
# In a text, quotation marks have a backslash before them.
_MAX_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
# How an answer ends that no limit has cut, even if the server didn't count its tokens.
_ENDED: tuple[FinishReason, ...] = ("json", "stop", "refusal", "content_filter")


class Entry(Row):
    """One line: the request's key, when its answer was received (UTC), request and answer."""

    key: str
    created: str
    request: Request
    answer: Answer


class Damaged(NamedTuple):
    """A line that can't be served, and why."""

    reason: str


class Line(NamedTuple):
    """Where an entry stands, and what it holds."""

    path: Path
    number: int
    text: bytes
    entry: Entry | Damaged


class AnswerCache:
    """The answers below one folder, as they are when this is made, and those put since.

    Args:
        folder: Where the files lie; by default `.cache/answers` of the main workspace.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "answers"
        self._where: dict[str, tuple[Path, int]] = {}
        self._limits: set[int] = set()
        """All limits on tokens that entries have."""
        self._file: int | None = None
        self._path = self.folder
        self._index()

    def _index(self) -> None:
        """Find out where each entry stands now."""
        self._where, self._limits = {}, set()
        for path in self._files():
            offset = 0
            for line in _lines(path):
                key = _read_key(line)
                if key is not None:
                    self._where.setdefault(key, (path, offset))
                    self._limits.update(map(int, _MAX_TOKENS.findall(line)))
                offset += len(line)

    def find(self, request: Request) -> Entry | None:
        """The entry that answers a request, or None if there is none yet.

        It may be that of a request with another limit on tokens, if that changed nothing.

        Raises:
            UserError: The request's entry is damaged or holds another request.
        """
        entry = self._get(request)
        if entry is not None:
            return entry
        for limit in sorted(self._limits - {request.max_tokens}):
            entry = self._get(request.model_copy(update={"max_tokens": limit}))
            if entry is not None and _ended_below(entry.answer, limit, request.max_tokens):
                return entry
        return None

    def _get(self, request: Request) -> Entry | None:
        """The entry of this very request."""
        entry = self._read(request.key)
        if isinstance(entry, Damaged):
            self._index()  # another process may have pruned, and so moved, what was there
            entry = self._read(request.key)
        if isinstance(entry, Damaged):
            raise UserError(
                f"{self._where[request.key][0]}: the cached answer {request.key[:12]} is damaged "
                f"({entry.reason}); run python -m persodpo cache prune --damaged --yes, and it is "
                "asked again."
            )
        return entry

    def _read(self, key: str) -> Entry | Damaged | None:
        """The entry of a key; damaged if another entry stands where it was."""
        if key not in self._where:
            return None
        path, offset = self._where[key]
        try:
            with path.open("rb") as file:
                file.seek(offset)
                entry = _checked(file.readline())
        except FileNotFoundError:
            return Damaged("its file is gone")
        if isinstance(entry, Entry) and entry.key != key:
            return Damaged(f"the entry {entry.key[:12]} stands in its place")
        return entry

    @contextlib.contextmanager
    def asking(self, request: Request) -> Iterator[None]:
        """Let one process at a time ask a model, so that two never pay for the same answers."""
        asked = (request.provider, request.base_url, request.model, request.weights)
        name = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                sys.stderr.write("waiting for another process that asks the same model\n")
                fcntl.flock(lock, fcntl.LOCK_EX)
            self._index()  # what another process has asked meanwhile
            yield

    def put(self, request: Request, answer: Answer) -> None:
        """Keep an answer before this returns. The first one of a request stays.

        Raises:
            UserError: It can't be written.
        """
        if request.key in self._where:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        entry = Entry(key=request.key, created=now, request=request, answer=answer)
        line = entry.model_dump_json().encode() + b"\n"
        try:
            file = self._own_file()
            offset = os.lseek(file, 0, os.SEEK_END)
            written = os.write(file, line)
        except OSError as error:
            raise UserError(f"{self._path}: an answer can't be kept ({error.strerror}).") from error
        if written < len(line):
            raise UserError(f"{self._path}: an answer can't be kept, because the disk is full.")
        self._where[request.key] = (self._path, offset)
        self._limits.add(request.max_tokens)

    def lines(self) -> Iterator[Line]:
        """All lines of all files, in the order in which entries are looked for."""
        for path in self._files():
            yield from _checked_lines(path)

    def remove(self, unwanted: Callable[[Line], bool]) -> list[Path]:
        """Rewrite the files without some lines.

        Returns:
            The files that were left as they are, because a running process writes to them.
        """
        busy = []
        for path in self._files():
            with path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    busy.append(path)
                    continue
                lines = list(_checked_lines(path))
                wanted = [line.text for line in lines if not unwanted(line)]
                if lines and not wanted:  # an empty file may be one that is just being made
                    path.unlink()
                elif len(wanted) < len(lines):
                    with atomic_file(path) as remaining:
                        remaining.writelines(wanted)
        return busy

    def _files(self) -> list[Path]:
        """Their names begin with the time they were made."""
        return sorted(self.folder.glob("*.jsonl"))

    def _own_file(self) -> int:
        """This process's file, made when it is first needed and locked while it lives."""
        if self._file is None:
            now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._path = self.folder / f"{now}-{uuid.uuid4().hex[:8]}.jsonl"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._file = os.open(self._path, flags, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX)
        return self._file

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


def _ended_below(answer: Answer, limit: int, other: int) -> bool:
    """Whether an answer given under one limit would have been the same under another one."""
    tokens = answer.completion_tokens
    if tokens is None:  # the server didn't count
        return answer.finish_reason in _ENDED and limit <= other
    return answer.finish_reason != "length" and tokens < min(limit, other)


def _lines(path: Path) -> Iterator[bytes]:
    """The finished lines of a file, each with its line feed, and half a one at the end."""
    with path.open("rb") as file:
        yield from file


def _checked_lines(path: Path) -> Iterator[Line]:
    for number, text in enumerate(_lines(path), start=1):
        yield Line(path, number, text, _checked(text))


def _read_key(line: bytes) -> str | None:
    """The key of a finished line, however it is laid out; None if it has none."""
    if not line.endswith(b"\n"):
        return None
    match = _KEY_FIRST.match(line)
    if match:
        return match[1].decode()
    try:
        key = json.loads(line)["key"]
    except (ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key, str) else None


def _checked(text: bytes) -> Entry | Damaged:
    if not text.endswith(b"\n"):
        return Damaged("half a line")
    try:
        entry = Entry.model_validate_json(text)
    except ValidationError as error:
        return Damaged(describe(error.errors()[0]))
    if entry.request.key != entry.key:
        return Damaged(f"its request has the key {entry.request.key[:12]}, not {entry.key[:12]}")
    return entry
