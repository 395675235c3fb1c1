"""The rows that travel between stages, and how they are read and written.

Every artifact between two stages is a JSON-lines file of one of these row
types. Files are written atomically (a reader never sees half a file) and
checked while they are read: a bad row is reported by file and line.
"""

import os
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from persodpo.errors import UserError
from persodpo.prompts import ContractResult, PersonaOf

FinishReason = Literal[
    "json",
    "stop",
    "length",
    "content_filter",
    "refusal",
    "refused",
    "other",
    "golden",
    "logged",
]


class Row(BaseModel):
    """Base of all rows: immutable; unknown fields, inf and nan are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Prompt(Row):
    """One dialogue up to a question, ready to be answered.

    Attributes:
        id: Stable across samples: the dialogue's id in its data set, or that with the number of
            the round.
        dialogue: The dialogue's id, where each of its rounds may be a prompt; else None.
        persona: The persona sentences of one speaker.
        persona_of: That speaker.
        turns: The turns before the answer, or the last of them, human and machine alternating;
            the last is the human's question that is to be answered.
        golden_answer: The data set's own answer.
        persona_grounding: For each persona sentence, whether the golden answer uses it; None if
            nobody marked it.
        text: The prompt as models see it (see `persodpo.prompts.render_prompt`).
    """

    id: str
    dialogue: str | None = None
    persona: list[str]
    persona_of: PersonaOf = "user"
    turns: list[str]
    golden_answer: str
    persona_grounding: list[bool] | None = None
    text: str

    @property
    def cluster(self) -> str:
        """What this prompt has in common with the other prompts of its dialogue."""
        return self.dialogue or self.id


class Answer(Row):
    """What a model said to one request.

    Attributes:
        raw: The text exactly as the model gave it, without its thoughts; of a refusal the reason it
            gave.
        finish_reason: `json` (stopped when it was a valid answer), `stop` (the model ended
            by itself), `length` (cut), `content_filter` or `refusal` (the server or the
            model wouldn't answer), `refused` (the server won't take the request), `other`;
            `golden` or `logged` (no model was called).
        thoughts: What the model thought aloud (see `persodpo.models.thoughts`); None if it didn't.
        error: Why the server refused the request.
        seconds: Wall-clock time of the call, or the answer's share of its batch's; None
            if unknown.
        batch_size: How many prompts were answered at once; None if unknown, as behind a server.
        prompt_tokens: Tokens of the prompt, chat template included; None if unknown.
        completion_tokens: Tokens the model generated, thoughts included; None if unknown.
        reasoning_tokens: Those of them that the server says went into thoughts; None if unknown.
        served_model: The model that the server says it ran; None for a local one.
        system_fingerprint: The server's mark of its configuration, if it gives one.
        dtype: The number format that a model on this machine computed in.
        device: What it ran on (see `persodpo.models.loading.device_name`).
    """

    raw: str
    finish_reason: FinishReason
    thoughts: str | None = None
    error: str | None = None
    seconds: float | None = None
    batch_size: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    served_model: str | None = None
    system_fingerprint: str | None = None
    dtype: str | None = None
    device: str | None = None


class Response(Row):
    """One model's answer to one prompt.

    Attributes:
        id: The prompt's id.
        model: The key of the model in `params.yaml`, or a candidate's name.
        sample: Which of the model's answers to the prompt this is, from 0.
        raw: The text that pairs show: what the model gave, without its thoughts; see `Answer`.
        contract: Whether it keeps the JSON contract (see `persodpo.prompts`).
        answer: The answer of a `valid` or `salvaged` response, else None.
        words: Number of blank-separated words of `answer`, or of `raw` without one.
        thoughts, error, seconds, batch_size, prompt_tokens, completion_tokens, reasoning_tokens,
            finish_reason, served_model, system_fingerprint, dtype, device: See `Answer`.
        request_key: Key of the answer in the cache (see `persodpo.generate.request`);
            None if no model was called.
    """

    id: str
    model: str
    sample: int = 0
    raw: str
    contract: ContractResult
    answer: str | None
    words: int
    thoughts: str | None = None
    error: str | None = None
    seconds: float | None
    batch_size: int | None = None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None = None
    finish_reason: FinishReason
    served_model: str | None
    system_fingerprint: str | None
    dtype: str | None = None
    device: str | None = None
    request_key: str | None


class Score(Row):
    """The values of the metrics for one response.

    Attributes:
        id: The prompt's id.
        model, sample: The response; see there.
        contract, answer: What was scored, so that a score can't pass for another answer's.
        values: By the keys of `scorers` in `params.yaml`, in their order; None where a metric can't
            be computed for a valid response.
    """

    id: str
    model: str
    sample: int = 0
    contract: ContractResult
    answer: str | None
    values: dict[str, float | None]


class Evaluated(Row):
    """One candidate's answer to a validation prompt with its raw scores."""

    response: Response
    score: Score


class Message(Row):
    """One message of a chat."""

    role: Literal["user", "assistant"]
    content: str


class Pair(Row):
    """A preference pair in TRL's conversational format, with where it comes from.

    Attributes:
        prompt: The user's message.
        chosen: The better answer.
        rejected: The worse answer.
        prompt_id: The prompt's id.
        model_chosen, sample_chosen: The model that gave the chosen answer, and which of its
            answers to the prompt that is.
        model_rejected, sample_rejected: The same of the rejected answer.
        score_chosen: S_total of the chosen answer.
        score_rejected: S_total of the rejected answer.
        cut_chosen: Whether the chosen text stops where the model was stopped at its most
            tokens, so that it doesn't end as a turn does.
        cut_rejected: The same of the rejected text.
    """

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    prompt_id: str
    model_chosen: str
    sample_chosen: int = 0
    model_rejected: str
    sample_rejected: int = 0
    score_chosen: float
    score_rejected: float
    cut_chosen: bool
    cut_rejected: bool


class Demonstration(Row):
    """A prompt with an answer to learn, in TRL's conversational format.

    Attributes:
        prompt: The user's message.
        completion: The answer.
        prompt_id: The prompt's id.
        cut: Whether the answer stops where its model was stopped at its most tokens, so that it
            doesn't end as a turn does.
    """

    prompt: list[Message]
    completion: list[Message]
    prompt_id: str
    cut: bool


RowT = TypeVar("RowT", bound=Row)


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes its place only when all is written; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp makes the file private; an artifact is as readable as any other file
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_file(path) as file:
        file.write(text.encode("utf-8"))


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as JSON lines, atomically, holding one at a time."""
    with atomic_file(path) as file:
        for row in rows:
            file.write(row.model_dump_json().encode("utf-8") + b"\n")


def read_rows(path: Path, row_type: type[RowT], mend: str | None = None) -> list[RowT]:
    """Read a JSON-lines file of one row type.

    Args:
        path: The file.
        row_type: Its rows.
        mend: What to do about a mistake in it, for messages; None for a file that a stage writes.

    Raises:
        UserError: The file is missing or can't be read, or a line is not a row of that type or no
            UTF-8 text.
    """
    return list(iterate_rows(path, row_type, mend))


def iterate_rows(path: Path, row_type: type[RowT], mend: str | None = None) -> Iterator[RowT]:
    """Read a JSON-lines file of one row type, one row at a time.

    For files that are large as objects. Arguments as of `read_rows`.

    Raises:
        UserError: As `read_rows`, but only when the mistake is reached.
    """
    number = 0
    try:
        # as bytes, so that what isn't UTF-8 is reported with its line
        with path.open("rb") as lines:
            for line in lines:
                number += 1
                # a file that somebody edited may begin with a byte order mark
                if row := (line.removeprefix(BOM_UTF8) if number == 1 else line).strip():
                    yield row_type.model_validate_json(row)
    except FileNotFoundError as error:
        fetch = "run the stage that writes it (dvc repro) or fetch it (dvc pull)"
        raise UserError(f"{path}: there is no such file; {mend or fetch}.") from error
    except ValidationError as error:
        raise UserError(
            f"{path}, line {number}: not a row of type {row_type.__name__} "
            f"({describe(error.errors()[0])}); {mend or 'run the stage that writes it again'}."
        ) from error
    except OSError as error:
        again = "run the stage that writes it again"
        raise UserError(f"{path}: can't be read ({error}); {mend or again}.") from error


def describe(error: Any) -> str:
    """One pydantic error as `field.subfield: what is wrong`."""
    field = ".".join(str(part) for part in error["loc"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{field}: {message}" if field else message
