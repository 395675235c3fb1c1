r"""The reader of ConvAI2's text files (Dinan et al., 2019, arXiv:1902.00098), as ParlAI has them.

Each line begins with its number, from 1 in each dialogue. First come the machine's persona
sentences, `your persona: i like cats.`, then a line per round: the human's turn, a tab and the
machine's answer. Behind two further tabs may stand wrong answers to choose from, which are passed
over, as is what is known of the partner. A human who hasn't said anything yet is `__SILENCE__`;
that round is left out, since in a prompt the human speaks first.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from persodpo.errors import UserError
from persodpo.sample.dialogue import Dialogue, check_dialogue

_LINE = re.compile(r"(\d+) (.*)")
OWN = "your persona:"
PARTNERS = "partner's persona:"
SILENCE = "__SILENCE__"


def read_convai2(row_prefix: str, path: Path, text: str) -> Iterator[Dialogue]:
    """The dialogues of a file's text, one after the other, with their numbers as ids.

    Raises:
        UserError: The text is in another format, or a dialogue lacks a part.
    """
    for number, (first_line, lines) in enumerate(_numbered_lines(path, text)):
        id_ = f"{row_prefix}{number}"
        place = f"{path}, line {first_line}, dialogue {id_!r}"
        persona = [line.removeprefix(OWN) for line in lines if line.startswith(OWN)]
        if not persona:
            raise UserError(
                f"{place}: there is no {OWN!r}; take a file of the kind `self`, such as "
                "train_self_original.txt."
            )
        turns = _turns(place, [line for line in lines if not line.startswith((OWN, PARTNERS))])
        if not turns:
            continue  # nothing but a machine that spoke first
        yield check_dialogue(
            place, id_, persona, turns[:-1], turns[-1], names=(OWN, "the rounds", "the rounds")
        )


def _numbered_lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each dialogue's lines without their numbers, and where it begins in the file."""
    lines: list[str] = []
    first = 1
    # not splitlines(): it also splits at characters that may stand inside a turn
    for place, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.rstrip("\r"))
        expected = {1, len(lines) + 1} if lines else {1}
        if match is None or int(match[1]) not in expected:
            raise UserError(
                f"{path}, line {place}: not ConvAI2's format, in which the lines of a dialogue are "
                "numbered from 1."
            )
        if int(match[1]) == 1 and lines:
            yield first, lines
            lines, first = [], place
        lines.append(match[2].strip(" "))
    if lines:
        yield first, lines


def _turns(place: str, rounds: list[str]) -> list[str]:
    """Human and machine in turn."""
    turns: list[str] = []
    for line in rounds:
        parts = line.split("\t")
        if len(parts) < 2:
            raise UserError(f"{place}: a round lacks the machine's answer behind a tab.")
        if parts[0].strip() != SILENCE:
            turns += parts[:2]
    return turns
