"""The rounds of a dialogue: each of the machine's answers, with the turns before it."""

from typing import Literal, NamedTuple

from persodpo.sample.dialogue import Dialogue


class Round(NamedTuple):
    """A dialogue up to one of the machine's answers.

    Attributes:
        id: The dialogue's id; with its number behind it where each round counts.
        turns: The turns before the answer, human first and last.
        golden_answer: The data set's own answer.
        persona_grounding: For each persona sentence, whether the answer uses it; None if nobody
            marked it.
        dialogue: The whole dialogue.
    """

    id: str
    turns: tuple[str, ...]
    golden_answer: str
    persona_grounding: tuple[bool, ...] | None
    dialogue: Dialogue


def rounds_of(dialogue: Dialogue, which: Literal["last", "all"]) -> list[Round]:
    """The last round of a dialogue, or all that its speakers wrote.

    Args:
        dialogue: The dialogue.
        which: `all` gives each round the id of the dialogue with `#1`, `#2` and so on behind it.
    """
    if which == "last":
        return [
            Round(
                dialogue.id,
                dialogue.turns,
                dialogue.golden_answer,
                dialogue.persona_grounding,
                dialogue,
            )
        ]
    turns = (*dialogue.turns, dialogue.golden_answer)
    n = len(turns) // 2
    earlier = dialogue.earlier_grounding or (None,) * (n - 1)
    marks = (*earlier, dialogue.persona_grounding)
    return [
        Round(
            f"{dialogue.id}#{number + 1}",
            turns[: 2 * number + 1],
            turns[2 * number + 1],
            marks[number],
            dialogue,
        )
        for number in range(dialogue.given_rounds, n)
    ]
