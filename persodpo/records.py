"""The rows that travel between stages, and how they are read and written.

Every artifact between two stages is a JSON-lines file of one of these row
types. Files are written atomically (a reader never sees half a file) and
checked while they are read: a bad row is reported by file and line.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from persodpo.errors import UserError
from persodpo.prompts import ContractResult

FinishReason = Literal[
    "json", "stop", "length", "content_filter", "refusal", "other", "reference", "logged"
]


class Row(BaseModel):
    """Base of all rows: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Prompt(Row):
    """One dialogue, ready to be answered.

    Attributes:
        id: The dialogue's id in its data set, stable across samples.
        persona: The persona sentences of the human speaker.
        turns: All turns but the last, human and machine alternating; the last
            of them is the human's question that is to be answered.
        reference: The data set's own answer.
        text: The prompt as models see it (see `persodpo.prompts.render_prompt`).
    """

    id: str
    persona: list[str]
    turns: list[str]
    reference: str
    text: str


class Answer(Row):
    """What a model said to one request.

    Attributes:
        raw: The text exactly as the model gave it, of a refusal the reason it gave.
        finish_reason: `json` (stopped when the object closed), `stop` (the model ended
            by itself), `length` (cut), `content_filter` or `refusal` (the server or the
            model wouldn't answer), `other`; `reference` or `logged` (no model was called).
        seconds: Wall-clock time of the call, or the answer's share of its batch's; None
            if unknown.
        prompt_tokens: Tokens of the prompt, chat template included; None if unknown.
        completion_tokens: Tokens the model generated; None if unknown.
        served_model: The model that the server says it ran; None for a local one.
        system_fingerprint: The server's mark of its configuration, if it gives one.
    """

    raw: str
    finish_reason: FinishReason
    seconds: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    served_model: str | None = None
    system_fingerprint: str | None = None


class Response(Row):
    """One model's answer to one prompt.

    Attributes:
        id: The prompt's id.
        model: The key of the model in `params.yaml`, or a candidate's name.
        raw: The text exactly as the model gave it; see `Answer`.
        contract: Whether it keeps the JSON contract (see `persodpo.prompts`).
        answer: The answer of a `valid` or `salvaged` response, else None.
        words: Number of blank-separated words of `answer`, or of `raw` without one.
        seconds, prompt_tokens, completion_tokens, finish_reason, served_model,
            system_fingerprint: See `Answer`.
        request_key: Key of the answer in the cache (see `persodpo.generation.request`);
            None if no model was called.
    """

    id: str
    model: str
    raw: str
    contract: ContractResult
    answer: str | None
    words: int
    seconds: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: FinishReason
    served_model: str | None
    system_fingerprint: str | None
    request_key: str | None


class Score(Row):
    """The raw sub-scores of one response; ranges are in `persodpo.metrics`.

    A metric that cannot be computed for a valid response is None.
    """

    id: str
    model: str
    raw: str
    valid: bool
    words: int
    c: float | None
    ue: float | None
    p: float | None
    coh: float | None


class Evaluated(Row):
    """One candidate's answer to a validation prompt with its raw scores."""

    response: Response
    score: Score


RowT = TypeVar("RowT", bound=Row)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, making its folder if needed."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, making its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        # mkstemp makes the file private; an artifact is as readable as any other file
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines, atomically."""
    write_text(path, "".join(row.model_dump_json() + "\n" for row in rows))


def read_rows(path: Path, row_type: type[RowT]) -> list[RowT]:
    """Read a JSON-lines file of one row type.

    Raises:
        UserError: The file is missing, or a line is not a row of that type.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: there is no such file; run the stage that writes it (dvc repro) "
            "or fetch it (dvc pull)."
        ) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if line:
            try:
                rows.append(row_type.model_validate_json(line))
            except ValidationError as error:
                raise UserError(
                    f"{path}, line {number}: not a row of type {row_type.__name__} "
                    f"({describe(error.errors()[0])}); run the stage that writes it again."
                ) from error
    return rows


def describe(error: Any) -> str:
    """One pydantic error as `field.subfield: what is wrong`."""
    where = ".".join(str(part) for part in error["loc"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{where}: {message}" if where else message
