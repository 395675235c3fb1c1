"""The reader of FoCUS's own JSON (Jang et al., AAAI 2022, arXiv:2112.08619).

A file is one object whose list `data` holds, per dialogue, `dialogID`, `persona` (five
sentences) and `utterance`: entry k of it has a list `dialoguek` with all turns so far, human
and machine in turn, so the last entry holds the whole dialogue. Its `persona_grounding` marks
which persona sentences that entry's answer uses. Other keys are passed over.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from persodpo.errors import UserError
from persodpo.sample.dialogue import Dialogue, check_dialogue, parse_json, read_id


def read_focus(path: Path, text: str) -> Iterator[Dialogue]:
    """The dialogues of a file's text, one after the other.

    Raises:
        UserError: The text is in another format, or a dialogue lacks a part.
    """
    document = parse_json(path, text, text_before="")
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise UserError(
            f"{path}: not FoCUS's format, which is one object with a list 'data' of dialogues."
        )
    for number, entry in enumerate(document["data"], start=1):
        id_ = read_id(path, entry, "dialogID", f"dialogue number {number}")
        place = f"{path}, dialogue {id_!r}"
        utterances = entry.get("utterance")
        if not isinstance(utterances, list) or not utterances:
            raise UserError(f"{place}: 'utterance' must be a list with at least one round.")
        # entry k repeats all turns of the entries before it, so the last one is enough
        key = f"dialogue{len(utterances)}"
        turns = utterances[-1].get(key) if isinstance(utterances[-1], dict) else None
        if not isinstance(turns, list) or len(turns) < 2:
            raise UserError(
                f"{place}: the last entry of 'utterance' needs a list {key!r} with all turns, "
                "at least a question and an answer."
            )
        if len(utterances) > 1 and len(turns) != 2 * len(utterances):
            raise UserError(
                f"{place}: {key!r} has {len(turns)} turns, and {len(utterances)} entries of "
                f"'utterance' have {2 * len(utterances)}, a question and an answer each."
            )
        persona = entry.get("persona")
        yield check_dialogue(
            place,
            id_,
            persona,
            turns[:-1],
            turns[-1],
            names=("persona", key, key),
            persona_grounding=utterances[-1].get("persona_grounding"),
            earlier_grounding=[_grounding(each) for each in utterances[:-1]],
        )


def _grounding(utterance: Any) -> Any:
    return utterance.get("persona_grounding") if isinstance(utterance, dict) else None
