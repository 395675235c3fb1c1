"""Readers of dialogues: FoCUS's own JSON, plain JSON lines, and the paper's published prompts.

FoCUS (Jang et al., AAAI 2022, arXiv:2112.08619) is one JSON object whose list
`data` holds, per dialogue, `dialogID`, `persona` (five sentences) and
`utterance`: entry k of it has a list `dialoguek` with all turns so far, human
and machine in turn, so the last entry holds the whole dialogue. Other keys
(knowledge, grounding marks) are not needed here and are passed over.

The plain format has one dialogue a line:
    {"id": "42", "persona": ["I love lighthouses."],
     "turns": ["What is this?"], "golden_answer": "A lighthouse, your favourite."}
`turns` are all turns before the answer, human first and last.

The published prompts are CSV with the columns `personas` (sentences without a blank
between them), `context` (a turn per line, `User1: ` and `User2: ` before them) and
`act_response` (the answer, `User2: ` before it). A row has no id but its number, from 0,
by which published responses and metric values find it.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from persodpo.errors import UserError


@dataclass(frozen=True)
class Dialogue:
    """A dialogue whose last machine turn is set apart as the golden answer.

    Attributes:
        id: Unique in its file.
        persona: Sentences about the human speaker, at least one.
        turns: The turns before the answer, human first and last.
        golden_answer: The machine's last turn.
    """

    id: str
    persona: tuple[str, ...]
    turns: tuple[str, ...]
    golden_answer: str


def read_dialogues(path: Path, row_prefix: str = "") -> list[Dialogue]:
    """Read all dialogues of a file.

    Args:
        path: `.json` is FoCUS's format, `.jsonl` the plain one, `.csv` the published prompts.
        row_prefix: Stands before a row's number in the ids of published prompts.

    Raises:
        UserError: The file is missing, cut off, in another format or encoding, or a
            dialogue lacks a persona, turns or an answer, or repeats an id. The
            message names the file and the dialogue.
    """
    readers: dict[str, Callable[[Path, str], Iterator[Dialogue]]] = {
        ".json": _read_focus,
        ".jsonl": _read_plain,
        ".csv": partial(_read_published, row_prefix),
    }
    if path.suffix not in readers:
        raise UserError(
            f"{path}: unknown kind of dialogue file; name it .json (FoCUS), .jsonl (plain) or .csv "
            "(published prompts)."
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


def _read_utf8(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: there is no such file; check sample.train_file and sample.valid_file "
            "in params.yaml (data/README.md says where FoCUS's files come from)."
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = data[: error.start].decode("utf-8-sig", errors="ignore")
        raise UserError(
            f"{path}, {_place(start)}: byte {error.start} is not UTF-8; "
            "save the file in the encoding UTF-8."
        ) from error


def _place(text_before: str) -> str:
    """Where a text breaks off: the line, and the last dialogue that begins before it."""
    line = text_before.count("\n") + 1
    ids = re.findall(r'"(?:dialogID|id)"\s*:\s*"?([^",}]*[^",}\s])[",]', text_before)
    where = f"in or after dialogue {ids[-1]!r}" if ids else "before the first dialogue"
    return f"line {line}, {where}"


def _read_focus(path: Path, text: str) -> Iterator[Dialogue]:
    document = _parse_json(path, text, text_before="")
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise UserError(
            f"{path}: not FoCUS's format, which is one object with a list 'data' of dialogues."
        )
    for number, entry in enumerate(document["data"], start=1):
        id_ = _read_id(path, entry, "dialogID", f"dialogue number {number}")
        where = f"{path}, dialogue {id_!r}"
        utterances = entry.get("utterance")
        if not isinstance(utterances, list) or not utterances:
            raise UserError(f"{where}: 'utterance' must be a list with at least one round.")
        # entry k repeats all turns of the entries before it, so the last one is enough
        key = f"dialogue{len(utterances)}"
        turns = utterances[-1].get(key) if isinstance(utterances[-1], dict) else None
        if not isinstance(turns, list) or len(turns) < 2:
            raise UserError(
                f"{where}: the last entry of 'utterance' needs a list {key!r} with all turns, "
                "at least a question and an answer."
            )
        persona = entry.get("persona")
        yield _dialogue(where, id_, persona, turns[:-1], turns[-1], names=("persona", key, key))


def _read_plain(path: Path, text: str) -> Iterator[Dialogue]:
    offset = 0
    # not splitlines(): it also splits at characters that may stand inside a JSON string
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            entry = _parse_json(path, line, text_before=text[:offset])
            id_ = _read_id(path, entry, "id", f"line {number}")
            where = f"{path}, dialogue {id_!r}"
            unknown = entry.keys() - {"id", "persona", "turns", "golden_answer"}
            if unknown:
                raise UserError(
                    f"{where}: unknown key {min(unknown)!r}; the keys are id, persona, turns, "
                    "golden_answer."
                )
            yield _dialogue(
                where,
                id_,
                entry.get("persona"),
                entry.get("turns"),
                entry.get("golden_answer"),
                names=("persona", "turns", "golden_answer"),
            )
        offset += len(line) + 1


def _read_published(row_prefix: str, path: Path, text: str) -> Iterator[Dialogue]:
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
            where = f"{path}, line {reader.line_num}, dialogue {id_!r}"
            if None in row:
                raise UserError(
                    f"{where}: it has more fields than the header; put quotation marks around a "
                    "field with commas."
                )
            names = ("personas", "context", "act_response")
            persona, context, answer = (row[name] or "" for name in names)
            yield _dialogue(
                where,
                id_,
                _sentences(persona),
                _marked_turns(where, context),
                answer.strip().removeprefix("User2:"),
                names=names,
            )
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error}).") from error


# A sentence ends where a capital follows without a blank, but not inside abbreviations (U.S.A., U.S
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


def _sentences(persona: str) -> list[str]:
    """The sentences of a persona that stand one behind the other."""
    persona = persona.strip()
    return (_LOWER_CASE_END if persona[:1].islower() else _SENTENCE_END).split(persona)


_SPEAKER = re.compile(r"^User([12]):", re.MULTILINE)


def _marked_turns(where: str, context: str) -> list[str]:
    """The turns of a context, without the marks of their speakers."""
    # not splitlines(): it also splits at characters that may stand inside a turn
    before, *marked = _SPEAKER.split(re.sub(r"\r\n?", "\n", context))
    speakers, turns = marked[::2], marked[1::2]
    if before.strip() or speakers != ["1", "2"] * (len(speakers) // 2) + ["1"] * (
        len(speakers) % 2
    ):
        raise UserError(
            f"{where}: the turns of 'context' must begin with 'User1: ' and 'User2: ' in turn, "
            "each on a line of its own."
        )
    return turns


def _parse_json(path: Path, text: str, text_before: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = _place(text_before + text[: error.pos])
        raise UserError(
            f"{path}, {place}: not valid JSON ({error.msg.lower()}); is the file complete?"
        ) from error
    except (RecursionError, ValueError) as error:
        raise UserError(
            f"{path}: no file of dialogues; it is nested too deeply, or has a number of thousands "
            "of digits."
        ) from error


def _read_id(path: Path, entry: Any, key: str, place: str) -> str:
    id_ = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(id_, int) and not isinstance(id_, bool):
        id_ = str(id_)
    if not isinstance(id_, str) or not id_.strip():
        raise UserError(f"{path}, {place}: it needs a {key!r}, a text or a whole number.")
    if _has_surrogate(id_):
        raise UserError(f"{path}, {place}: its {key!r} has half of a surrogate pair (\\ud800...).")
    return id_


def _dialogue(
    where: str, id_: str, persona: Any, turns: Any, golden_answer: Any, names: tuple[str, str, str]
) -> Dialogue:
    """Check the parts of one dialogue; `names` are their names in the file, for messages."""
    for value, name in ((persona, names[0]), (turns, names[1])):
        if not isinstance(value, list) or not value:
            raise UserError(f"{where}: {name!r} must be a list with at least one sentence.")
    if len(turns) % 2 == 0:
        raise UserError(
            f"{where}: in {names[1]!r} human and machine take turns and the machine has the last "
            f"word, but the answer is turn {len(turns) + 1}."
        )
    for texts, name in ((persona, names[0]), (turns, names[1]), ([golden_answer], names[2])):
        for number, text in enumerate(texts, start=1):
            what = (
                "the answer" if text is golden_answer and texts is not persona else f"item {number}"
            )
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"{where}: {what} of {name!r} is empty or not a text.")
            if _has_surrogate(text):
                raise UserError(
                    f"{where}: {what} of {name!r} has half of a surrogate pair (\\ud800...), "
                    "which is no character; write the character itself."
                )
    return Dialogue(
        id=id_,
        persona=tuple(sentence.strip() for sentence in persona),
        turns=tuple(turn.strip() for turn in turns),
        golden_answer=golden_answer.strip(),
    )


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
