"""The reader of plain JSON lines, one dialogue a line.

    {"id": "42", "persona": ["I love lighthouses."],
     "turns": ["What is this?"], "golden_answer": "A lighthouse, your favourite."}

`turns` are all turns before the answer, human first and last. `persona_grounding` may mark the
persona sentences that the answer uses: a list of true and false.
"""

from collections.abc import Iterator
from pathlib import Path

from persodpo.errors import UserError
from persodpo.sample.dialogue import Dialogue, check_dialogue, parse_json, read_id

KEYS = ("id", "persona", "turns", "golden_answer", "persona_grounding")


def read_plain(path: Path, text: str) -> Iterator[Dialogue]:
    """The dialogues of a file's text, one after the other.

    Raises:
        UserError: The text is in another format, or a dialogue lacks a part.
    """
    offset = 0
    # not splitlines(): it also splits at characters that may stand inside a JSON string
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            entry = parse_json(path, line, text_before=text[:offset])
            id_ = read_id(path, entry, "id", f"line {number}")
            place = f"{path}, dialogue {id_!r}"
            unknown = entry.keys() - set(KEYS)
            if unknown:
                raise UserError(
                    f"{place}: unknown key {min(unknown)!r}; the keys are {', '.join(KEYS)}."
                )
            yield check_dialogue(
                place,
                id_,
                entry.get("persona"),
                entry.get("turns"),
                entry.get("golden_answer"),
                names=("persona", "turns", "golden_answer"),
                persona_grounding=entry.get("persona_grounding"),
            )
        offset += len(line) + 1
