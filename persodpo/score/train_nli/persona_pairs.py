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

import numpy as np
import pandas as pd

from persodpo.errors import UserError
from persodpo.records import Row
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


class MarkRow(Row):
    """What was written by hand for the mark of a persona sentence that an answer uses.

    Attributes:
        dialogue, round, sentence: The mark.
        opposite: A persona sentence that the answer contradicts.
        echo: What follows from the persona sentence.
        denial: What contradicts it.
    """

    dialogue: str
    round: int
    sentence: int
    opposite: str
    echo: str
    denial: str


class PersonRow(Row):
    """What was written by hand about somebody of no dialogue; see `MarkRow`.

    Attributes:
        persona: A persona sentence.
        neutral: What neither follows from it nor contradicts it.
        opposite, echo, denial: As there; not every row has an opposite.
    """

    persona: str
    opposite: str | None = None
    echo: str
    denial: str
    neutral: str


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
    written: Sequence[MarkRow], rounds: Sequence[Round], nearest: Nearest
) -> pd.DataFrame:
    """Pairs of what was written by hand for marks; rows of other dialogues are left out."""
    by_place = {(each.dialogue, each.number): each for each in rounds}
    rows = []
    for row in written:
        each = by_place.get((row.dialogue, row.round))
        if each is None:
            continue
        one = each.persona[row.sentence]
        rows += [
            (row.opposite, nearest(one, each.answer), "contradiction"),
            (row.opposite, row.echo, "contradiction"),
            (one, row.echo, "entailment"),
            (one, row.denial, "contradiction"),
        ]
    return pd.DataFrame(rows, columns=COLUMNS)


def pairs_of_people(written: Sequence[PersonRow], rng: np.random.Generator) -> pd.DataFrame:
    """Pairs of what was written by hand about people of no dialogue.

    What is said to one person is neutral for others, drawn at random.
    """
    rows = []
    for place, row in enumerate(written):
        rows += [
            (row.persona, row.echo, "entailment"),
            (row.persona, row.denial, "contradiction"),
            (row.persona, row.neutral, "neutral"),
        ]
        if row.opposite:
            rows += [
                (row.opposite, row.echo, "contradiction"),
                (row.persona, row.opposite, "contradiction"),
            ]
        for other in rng.integers(len(written), size=STRANGERS):
            if other != place:
                text = row.echo if rng.random() < 0.5 else row.denial
                rows.append((written[other].persona, text, "neutral"))
    return pd.DataFrame(rows, columns=COLUMNS)
