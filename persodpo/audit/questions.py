"""Questions to a metric: answers that it should value more, and those that it should value less.

All are made from golden answers, so that no model writes a text:

    persona      the answer under its own persona, and under other dialogues' personas
    turns        the answer after its own turns, and after other dialogues' turns
    sentences    the answer and one persona sentence that it uses, and one that it doesn't, by
                 FoCUS's marks
    opposites    the answer under its own persona, and under the same one with a sentence that it
                 uses replaced by its opposite, written by hand
    echo         the answer, and the persona sentences themselves in its place
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from persodpo.errors import UserError
from persodpo.prompts import wrap_response
from persodpo.records import Prompt, Response, Row, read_rows
from persodpo.score import Metric, QuestionName


@dataclass(frozen=True)
class Case:
    """An answer to a prompt; what is made from one dialogue is one cluster."""

    prompt: Prompt
    answer: str
    cluster: str

    def response(self) -> Response:
        """The answer as a valid response."""
        return Response(
            id=self.prompt.id,
            model="golden",
            raw=wrap_response(self.answer),
            contract="valid",
            answer=self.answer,
            words=len(self.answer.split()),
            seconds=None,
            prompt_tokens=None,
            completion_tokens=None,
            finish_reason="golden",
            served_model=None,
            system_fingerprint=None,
            request_key=None,
        )


@dataclass(frozen=True)
class Question:
    """The cases that a metric should value more, and those it should value less."""

    name: QuestionName
    higher: list[Case]
    lower: list[Case]


class Opposite(Row):
    """A row of the file of opposites.

    Attributes:
        dialogue: The dialogue that it was written for.
        persona: All its persona sentences.
        turns: The turns before the answer.
        answer: An answer of it that uses one of them.
        sentence: Which, from 0.
        opposite: What stands in its place; the answer contradicts it.
        way: How it came about, such as negation or antonym.
    """

    dialogue: str
    persona: Annotated[list[str], Field(min_length=1)]
    turns: Annotated[list[str], Field(min_length=1)]
    answer: Annotated[str, Field(min_length=1)]
    sentence: int
    opposite: Annotated[str, Field(min_length=1)]
    way: str


def golden_cases(prompts: Sequence[Prompt]) -> list[Case]:
    """Each prompt with its golden answer."""
    return [Case(prompt, prompt.golden_answer, prompt.cluster) for prompt in prompts]


def ask(
    prompts: Sequence[Prompt], opposites: Sequence[Opposite], others: int, seed: int
) -> dict[QuestionName, Question]:
    """Make all questions that the prompts give.

    Args:
        prompts: With golden answers.
        opposites: Rows of the file of opposites; none leave that question out.
        others: With so many other dialogues each answer is compared.
        seed: Of the draw of these.
    """
    golden = golden_cases(prompts)
    exchanged = _other_prompts(prompts, others, seed)
    found = [
        Question(
            "persona",
            golden,
            [_changed(one, {"persona": other.persona}) for one, other in exchanged],
        ),
        Question(
            "turns", golden, [_changed(one, {"turns": other.turns}) for one, other in exchanged]
        ),
        _sentences(prompts),
        _opposites(opposites),
        Question("echo", golden, [_echo(prompt) for prompt in prompts if prompt.persona]),
    ]
    return {question.name: question for question in found if question.higher and question.lower}


def concerns(metric: Metric) -> list[QuestionName]:
    """The questions that are about what a metric looks at."""
    if metric.questions is not None:
        return list(metric.questions)
    names: list[QuestionName] = []
    if "persona" in metric.needs:
        names += ["persona", "sentences", "opposites", "echo"]
    if {"last_turn", "dialogue"} & set(metric.needs):
        names.append("turns")
    return names


def _other_prompts(
    prompts: Sequence[Prompt], others: int, seed: int
) -> list[tuple[Prompt, Prompt]]:
    """Each prompt with so many of other dialogues.

    Where each dialogue gives one prompt, each is another's as often as the rest.
    """
    order = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    pairs = []
    for place, one in enumerate(order):
        following = (prompts[other] for other in order[place + 1 :] + order[:place])
        strangers = (other for other in following if other.cluster != prompts[one].cluster)
        pairs += [(prompts[one], other) for other in islice(strangers, others)]
    return pairs


def _changed(prompt: Prompt, change: dict[str, list[str]]) -> Case:
    return Case(prompt.model_copy(update=change), prompt.golden_answer, prompt.cluster)


def _echo(prompt: Prompt) -> Case:
    return Case(prompt, " ".join(prompt.persona), prompt.cluster)


def _sentences(prompts: Sequence[Prompt]) -> Question:
    question = Question("sentences", [], [])
    for prompt in prompts:
        for sentence, used in zip(prompt.persona, prompt.persona_grounding or (), strict=False):
            side = question.higher if used else question.lower
            side.append(_changed(prompt, {"persona": [sentence]}))
    return question


def _opposites(rows: Sequence[Opposite]) -> Question:
    question = Question("opposites", [], [])
    for number, row in enumerate(rows):
        replaced = [*row.persona]
        replaced[row.sentence] = row.opposite
        own = Prompt(
            id=f"opposite-{number}",
            persona=row.persona,
            turns=row.turns,
            golden_answer=row.answer,
            text="",
        )
        question.higher.append(Case(own, row.answer, row.dialogue))
        question.lower.append(
            Case(own.model_copy(update={"persona": replaced}), row.answer, row.dialogue)
        )
    return question


def read_opposites(path: Path) -> list[Opposite]:
    """Read a file of opposites, JSON lines.

    Raises:
        UserError: It is missing, has no row, or a row isn't one.
    """
    mend = "data/README.md says what audit.opposites holds; null leaves that question out"
    rows = read_rows(path, Opposite, mend)
    for number, row in enumerate(rows, start=1):
        if not 0 <= row.sentence < len(row.persona):
            raise UserError(
                f"{path}, row {number}: sentence is {row.sentence}, and the persona has "
                f"{len(row.persona)} sentences, counted from 0."
            )
    if not rows:
        raise UserError(f"{path}: it has no rows; {mend}.")
    return rows
