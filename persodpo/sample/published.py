"""The reader of the paper's published prompts.

They are CSV with the columns `personas` (sentences without a blank
between them), `context` (a turn per line, `User1: ` and `User2: ` before them) and
`act_response` (the answer, `User2: ` before it). A row has no id but its number, from 0,
by which published responses and metric values find it.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from persodpo.errors import UserError
from persodpo.sample.dialogue import Dialogue, check_dialogue

# A sentence ends place a capital follows without a blank, but not inside abbreviations (U.S.A., U.S
# opens), in which a single letter other than the word I follows.
_SENTENCE_END = re.compile(
    r'(?<=[.!?,])(?=["\u201c]?[A-Z])(?![A-Z]\.)'
    r"(?!(?<=\b[A-Z]\.)[B-HJ-Z]\b)(?!(?<=[A-Z]\.[A-Z]\.)A\b)"
)
# In ConvAI2 all is in lower case. There a sentence ends at a full stop with a blank behind it, but
# not behind a single letter, a title or a month, or without one before a word that begins most of
# these sentences.
_LOWER_CASE_END = re.compile(
    r"(?<=[.!?])(?:"
    r"(?<!\b[a-z]\.)(?<!\b(?:mr|ms|dr|st|jr|vs)\.)"
    r"(?<!\b(?:mrs|jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)\.)"
    r"\s+(?=[\"']?[A-Za-z0-9])"
    r"|\s*(?=(?:i|my|we|our|he|she|they|it|the|a|an|people|you)\b)"
    r")"
)
_SPEAKER = re.compile(r"^User([12]):", re.MULTILINE)


def read_published(row_prefix: str, path: Path, text: str) -> Iterator[Dialogue]:
    """The dialogues of a file's text, one after the other.

    Raises:
        UserError: The text is in another format, or a dialogue lacks a part.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        missing = {"personas", "context", "act_response"}.difference(reader.fieldnames or ())
        if missing:
            raise UserError(
                f"{path}: there is no column {min(missing)!r}; published prompts have personas, "
                "context and act_response."
            )
        for number, row in enumerate(reader):
            id_ = f"{row_prefix}{number}"
            place = f"{path}, line {reader.line_num}, dialogue {id_!r}"
            if None in row:
                raise UserError(
                    f"{place}: it has more fields than the header; put quotation marks around a "
                    "field with commas."
                )
            names = ("personas", "context", "act_response")
            persona, context, answer = (row[name] or "" for name in names)
            yield check_dialogue(
                place,
                id_,
                _sentences(persona),
                _marked_turns(place, context),
                answer.strip().removeprefix("User2:"),
                names=names,
            )
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error}).") from error


def _sentences(persona: str) -> list[str]:
    """The sentences of a persona that stand one behind the other."""
    persona = persona.strip()
    return (_LOWER_CASE_END if persona[:1].islower() else _SENTENCE_END).split(persona)


def _marked_turns(place: str, context: str) -> list[str]:
    """The turns of a context, without the marks of their speakers."""
    # not splitlines(): it also splits at characters that may stand inside a turn
    before, *marked = _SPEAKER.split(re.sub(r"\r\n?", "\n", context))
    speakers, turns = marked[::2], marked[1::2]
    if before.strip() or speakers != ["1", "2"] * (len(speakers) // 2) + ["1"] * (
        len(speakers) % 2
    ):
        raise UserError(
            f"{place}: the turns of 'context' must begin with 'User1: ' and 'User2: ' in turn, "
            "each on a line of its own."
        )
    return turns
