"""Pairs of persona sentence and answer sentence, with labels, to train a judge of personas.

What follows from a persona sentence, what contradicts it and what does neither comes from four
places: FoCUS's marks of the sentences that an answer uses; sentences written by hand for these
marks (an opposite, an echo, a denial); such sentences about people of nobody's dialogue; and
answers under other dialogues' persona sentences. Answers are cut into sentences, and a persona
sentence is paired with the nearest, as the judge does it.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from persodpo.errors import UserError
from persodpo.score.train_nli.pairs import COLUMNS

# With so many other people each echo or denial is paired.
STRANGERS = 3
# From a persona sentence and an answer to the answer's nearest sentence.
Nearest = Callable[[str, str], str]


@dataclass(frozen=True)
class Round:
    """An answer of a dialogue, with the persona and the marks of what it uses."""

    dialogue: str
    number: int
    persona: tuple[str, ...]
    used: tuple[bool, ...]
    answer: str


def read_rounds(path: Path) -> list[Round]:
    """Read every round of dialogues in FoCUS's JSON.

    Raises:
        UserError: The file is missing or in another format.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["data"]
        return [
            Round(
                dialogue=str(entry["dialogID"]),
                number=number,
                persona=tuple(entry["persona"]),
                used=tuple(map(bool, utterance["persona_grounding"])),
                answer=utterance[f"dialogue{number + 1}"][-1],
            )
            for entry in entries
            for number, utterance in enumerate(entry["utterance"])
        ]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{path}: can't be read as FoCUS's JSON with persona_grounding ({error!r})."
        ) from error


def read_sentences(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Read sentences that were written by hand, JSON lines.

    Args:
        path: The file.
        fields: What each row must have.

    Raises:
        UserError: The file is missing, or a row is no object or lacks a field.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error}).") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error}).") from error
        if not isinstance(row, dict) or (missing := set(fields) - row.keys()):
            lacking = ", ".join(sorted(missing)) if isinstance(row, dict) else "all fields"
            raise UserError(f"{path}, line {number}: it lacks {lacking}.")
        rows.append(row)
    return rows


def pairs_of_rounds(
    rounds: Sequence[Round], nearest: Nearest, exchanged: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Pairs by the marks: what is used is entailed, all else neutral.

    Args:
        rounds: Of training dialogues.
        nearest: Finds an answer's sentence.
        exchanged: With so many sentences of other dialogues' personas each answer is paired, too.
        rng: Draws these.
    """
    rows = []
    for each in rounds:
        own = zip(each.persona, each.used, strict=True)
        rows += [
            (one, nearest(one, each.answer), "entailment" if used else "neutral")
            for one, used in own
        ]
        for place in rng.integers(len(rounds), size=exchanged):
            other = rounds[place]
            if other.dialogue != each.dialogue:
                one = other.persona[rng.integers(len(other.persona))]
                rows.append((one, nearest(one, each.answer), "neutral"))
    return pd.DataFrame(rows, columns=COLUMNS)


def pairs_of_marks(
    written: Sequence[dict[str, Any]], rounds: Sequence[Round], nearest: Nearest
) -> pd.DataFrame:
    """Pairs of what was written by hand for marks; rows of other dialogues are left out."""
    by_place = {(each.dialogue, each.number): each for each in rounds}
    rows = []
    for row in written:
        each = by_place.get((row["dialogue"], row["round"]))
        if each is None:
            continue
        one = each.persona[row["sentence"]]
        rows += [
            (row["opposite"], nearest(one, each.answer), "contradiction"),
            (row["opposite"], row["echo"], "contradiction"),
            (one, row["echo"], "entailment"),
            (one, row["denial"], "contradiction"),
        ]
    return pd.DataFrame(rows, columns=COLUMNS)


def pairs_of_people(written: Sequence[dict[str, Any]], rng: np.random.Generator) -> pd.DataFrame:
    """Pairs of what was written by hand about people of no dialogue.

    What is said to one person is neutral for others, drawn at random.
    """
    rows = []
    for place, row in enumerate(written):
        rows += [
            (row["persona"], row["echo"], "entailment"),
            (row["persona"], row["denial"], "contradiction"),
            (row["persona"], row["neutral"], "neutral"),
        ]
        if row.get("opposite"):
            rows += [
                (row["opposite"], row["echo"], "contradiction"),
                (row["persona"], row["opposite"], "contradiction"),
            ]
        for other in rng.integers(len(written), size=STRANGERS):
            if other != place:
                text = row["echo"] if rng.random() < 0.5 else row["denial"]
                rows.append((written[other]["persona"], text, "neutral"))
    return pd.DataFrame(rows, columns=COLUMNS)
