"""The reader of Blended Skill Talk's JSON (Smith et al., ACL 2020, arXiv:2004.08449).

A file is one list of dialogues. A dialogue has two `personas`, the second of which is that of the
guided speaker, here the machine; a `free_turker_utterance` and a `guided_turker_utterance`, which
come from other data sets and were shown to the speakers as the beginning; and as `dialog` a list of
[speaker, turn], 0 for the free speaker and 1 for the guided. Other keys are passed over.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from persodpo.errors import UserError
from persodpo.sample.dialogue import Dialogue, check_dialogue, parse_json

FREE, GUIDED = 0, 1
FIRST_TURNS = ("free_turker_utterance", "guided_turker_utterance")


def read_blended(row_prefix: str, path: Path, text: str) -> Iterator[Dialogue]:
    """The dialogues of a file's text, one after the other, with their numbers as ids.

    Raises:
        UserError: The text is in another format, or a dialogue lacks a part.
    """
    for number, entry in enumerate(parse_json(path, text, text_before="")):
        id_ = f"{row_prefix}{number}"
        place = f"{path}, dialogue {id_!r}"
        if not isinstance(entry, dict):
            raise UserError(f"{place}: not Blended Skill Talk's format, a list of objects.")
        personas = entry.get("personas")
        if not isinstance(personas, list) or len(personas) != 2:
            raise UserError(f"{place}: 'personas' must be a list of two personas.")
        turns = [entry.get(name) for name in FIRST_TURNS] + _turns(place, entry.get("dialog"))
        yield check_dialogue(
            place,
            id_,
            personas[GUIDED],
            turns[:-1],
            turns[-1],
            names=("personas", "dialog", "dialog"),
            given_rounds=1,
        )


def _turns(place: str, dialog: Any) -> list[Any]:
    """The turns up to the guided speaker's last one."""
    speakers = (
        [turn[0] if isinstance(turn, list) and len(turn) == 2 else None for turn in dialog]
        if isinstance(dialog, list)
        else []
    )
    is_in_turn = speakers == [FREE if n % 2 == 0 else GUIDED for n in range(len(speakers))]
    if not is_in_turn or len(speakers) < 2:
        raise UserError(
            f"{place}: 'dialog' must be a list of [speaker, turn], with the speakers 0 and 1 in "
            "turn, at least one turn of each."
        )
    return [turn[1] for turn in dialog[: len(dialog) // 2 * 2]]
