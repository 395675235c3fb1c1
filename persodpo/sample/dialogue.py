"""A dialogue, and what every reader checks of its parts."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
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
        persona_grounding: For each persona sentence, whether the golden answer uses it; None if
            nobody marked it.
        earlier_grounding: The same of the machine's earlier turns, one after the other; empty if
            nobody marked any.
        given_rounds: So many rounds at the beginning were shown to the speakers, and not written by
            them.
    """

    id: str
    persona: tuple[str, ...]
    turns: tuple[str, ...]
    golden_answer: str
    persona_grounding: tuple[bool, ...] | None = None
    earlier_grounding: tuple[tuple[bool, ...] | None, ...] = ()
    given_rounds: int = 0


def check_dialogue(
    place: str,
    id_: str,
    persona: Any,
    turns: Any,
    golden_answer: Any,
    names: tuple[str, str, str],
    persona_grounding: Any = None,
    earlier_grounding: Sequence[Any] = (),
    given_rounds: int = 0,
) -> Dialogue:
    """Check the parts of one dialogue.

    Args:
        place: The file and the dialogue, for messages.
        id_: Its id.
        persona: What should be a list of sentences.
        turns: What should be a list of turns, human first and last.
        golden_answer: What should be the machine's last turn.
        names: What the file calls persona, turns and answer, for messages.
        persona_grounding: What should be a list of true and false, one per persona sentence; None
            if the file has none.
        earlier_grounding: The same of each of the machine's earlier turns.
        given_rounds: See `Dialogue`.

    Raises:
        UserError: One of them is missing, empty or of another type.
    """
    for value, name in ((persona, names[0]), (turns, names[1])):
        if not isinstance(value, list) or not value:
            raise UserError(f"{place}: {name!r} must be a list with at least one sentence.")
    if len(turns) % 2 == 0:
        raise UserError(
            f"{place}: in {names[1]!r} human and machine take turns and the machine has the last "
            f"word, but the answer is turn {len(turns) + 1}."
        )
    for texts, name in ((persona, names[0]), (turns, names[1]), ([golden_answer], names[2])):
        for number, text in enumerate(texts, start=1):
            is_answer = text is golden_answer and texts is not persona
            part = "the answer" if is_answer else f"item {number}"
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"{place}: {part} of {name!r} is empty or not a text.")
            if _has_surrogate(text):
                raise UserError(
                    f"{place}: {part} of {name!r} has half of a surrogate pair (\\ud800...), "
                    "which is no character; write the character itself."
                )
    return Dialogue(
        id=id_,
        persona=tuple(sentence.strip() for sentence in persona),
        turns=tuple(turn.strip() for turn in turns),
        golden_answer=golden_answer.strip(),
        persona_grounding=_marks(place, persona_grounding, len(persona)),
        earlier_grounding=tuple(_marks(place, marks, len(persona)) for marks in earlier_grounding),
        given_rounds=given_rounds,
    )


def _marks(place: str, marks: Any, n: int) -> tuple[bool, ...] | None:
    """Which of n persona sentences an answer uses."""
    if marks is None:
        return None
    is_list = isinstance(marks, list) and len(marks) == n
    if not is_list or not all(isinstance(mark, bool) for mark in marks):
        raise UserError(
            f"{place}: 'persona_grounding' must be a list of {n} times true or false, "
            "one per sentence of the persona; leave it out if the sentences weren't marked."
        )
    return tuple(marks)


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def read_id(path: Path, entry: Any, key: str, place: str) -> str:
    """The id of a dialogue, which may be a text or a whole number.

    Raises:
        UserError: It has none.
    """
    id_ = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(id_, int) and not isinstance(id_, bool):
        id_ = str(id_)
    if not isinstance(id_, str) or not id_.strip():
        raise UserError(f"{path}, {place}: it needs a {key!r}, a text or a whole number.")
    if _has_surrogate(id_):
        raise UserError(f"{path}, {place}: its {key!r} has half of a surrogate pair (\\ud800...).")
    return id_


def parse_json(path: Path, text: str, text_before: str) -> Any:
    """Decode JSON; `text_before` is what stands before it in the file, for messages.

    Raises:
        UserError: It isn't JSON, or nested beyond reason.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = describe_place(text_before + text[: error.pos])
        raise UserError(
            f"{path}, {place}: not valid JSON ({error.msg.lower()}); is the file complete?"
        ) from error
    except (RecursionError, ValueError) as error:
        raise UserError(
            f"{path}: no file of dialogues; it is nested too deeply, or has a number of thousands "
            "of digits."
        ) from error


def describe_place(text_before: str) -> str:
    """Where a text breaks off: the line, and the last dialogue that begins before it."""
    line = text_before.count("\n") + 1
    ids = re.findall(r'"(?:dialogID|id)"\s*:\s*"?([^",}]*[^",}\s])[",]', text_before)
    dialogue = f"in or after dialogue {ids[-1]!r}" if ids else "before the first dialogue"
    return f"line {line}, {dialogue}"
