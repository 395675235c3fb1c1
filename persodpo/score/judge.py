"""A judge by any chat model of the catalogue: grades of single answers, or verdicts on two.

The model gets a rubric, a text file in which the persona, the dialogue and the answers are filled
in, and replies with a JSON object. Its calls go the way of all calls: through the cache, the
estimate, the budget and the limits of `generate`.

    grade     a whole number on the rubric's scale
    pairwise  the answer against the golden answer, asked in both orders: 1 if it is the better one
              in both, 0 if the golden answer is, else a half
    flips     1 if the verdict changes with the order, else 0; it asks what pairwise asks

An answer that is the golden one is a tie, about which no model is asked.

That verdicts depend on the order is why both are asked (Zheng et al., NeurIPS 2023,
arXiv:2306.05685, section 3.4, which counts a change as a tie, too).
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import PrivateAttr

from persodpo.config.sections import Key, Text
from persodpo.errors import UserError
from persodpo.records import Prompt
from persodpo.score.metric import (
    AskModel,
    Metric,
    Need,
    Prompts,
    Responses,
    Scorer,
    Values,
    answers_of,
)

Mode = Literal["grade", "pairwise", "flips"]
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
# What a rubric must have, and what it may have besides.
REQUIRED: dict[Mode, set[str]] = {
    "grade": {"answer"},
    "pairwise": {"answer_a", "answer_b"},
    "flips": {"answer_a", "answer_b"},
}
OPTIONAL: dict[Mode, set[str]] = {
    "grade": {"persona", "dialogue", "golden_answer"},
    "pairwise": {"persona", "dialogue"},
    "flips": {"persona", "dialogue"},
}
POINTS = {"A": 1.0, "B": 0.0, "tie": 0.5}
_decoder = json.JSONDecoder()


class Judge(Scorer):
    """A metric by a chat model of the catalogue."""

    kind: Literal["judge"]
    # a call each, which is no audit's business
    can_be_asked: ClassVar[bool] = False
    model: Key
    rubric: Text
    mode: Mode
    low: int | None
    high: int | None
    _ask: AskModel | None = PrivateAttr(None)

    def metric(self) -> Metric:
        """See `Scorer.metric`.

        Raises:
            ValueError: The mode and the scale don't go together.
        """
        needs: tuple[Need, ...] = ("persona", "dialogue")
        if self.mode == "grade":
            low, high = self._scale()
            return Metric(f"Grade by {self.model}", low, high, low, version=1, needs=needs)
        if (self.low, self.high) != (None, None):
            raise ValueError(f"{self.mode} has a scale of its own; set low and high to null")
        needs = (*needs, "golden_answer")
        if self.mode == "pairwise":
            return Metric(f"Wins by {self.model}", 0, 1, 0, version=1, needs=needs)
        return Metric(
            f"Flips by {self.model}", 0, 1, 1, version=1, needs=needs, higher_is_better=False
        )

    def _scale(self) -> tuple[int, int]:
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("a grade needs low and high, whole numbers with low below high")
        return self.low, self.high

    def bound(self, ask: AskModel) -> "Judge":
        """See `Scorer.bound`."""
        copy = self.model_copy()
        copy._ask = ask
        return copy

    def model_keys(self) -> list[str]:
        """See `Scorer.model_keys`."""
        return [self.model]

    def paths(self) -> list[str]:
        """See `Scorer.paths`."""
        return [self.rubric]

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        assert self._ask is not None, f"{key} must be bound to its model"
        replies = self._ask(self.model, self.texts(key, prompts, answers_of(responses)))
        if self.mode == "grade":
            return [read_grade(reply, *self._scale()) for reply in replies]
        found = [POINTS.get(read_better(reply) or "") for reply in replies]
        pairs = zip(found[::2], found[1::2], strict=True)
        return [
            self._verdict(*((0.5, 0.5) if _is_golden(prompt, answer) else next(pairs)))
            for prompt, answer in zip(prompts, answers_of(responses), strict=True)
        ]

    def _verdict(self, first: float | None, second: float | None) -> float | None:
        """One value of the points of the answer as A and of the golden answer as A."""
        if first is None or second is None:
            return None
        points = (first, 1 - second)
        if self.mode == "flips":
            return float(points[0] != points[1])
        return points[0] if points[0] == points[1] else 0.5

    def texts(self, key: str, prompts: Prompts, answers: Sequence[str]) -> list[str]:
        """What the model is asked: one text per answer, or two, in both orders.

        Two answers that are the same aren't compared.

        Raises:
            UserError: The rubric can't be read, or lacks or has a placeholder.
        """
        rubric = read_rubric(Path(self.rubric), self.mode, key)
        texts = []
        for prompt, answer in zip(prompts, answers, strict=True):
            if self.mode == "grade":
                texts.append(fill(rubric, prompt, {"answer": answer}))
            elif not _is_golden(prompt, answer):
                both = (answer, prompt.golden_answer)
                texts += [
                    fill(rubric, prompt, {"answer_a": one, "answer_b": other})
                    for one, other in (both, both[::-1])
                ]
        return texts


def _is_golden(prompt: Prompt, answer: str) -> bool:
    return answer.split() == prompt.golden_answer.split()


def read_rubric(path: Path, mode: Mode, key: str) -> str:
    """Read a rubric and check its placeholders.

    Raises:
        UserError: It can't be read, lacks a placeholder, or has one that nothing stands for.
    """
    try:
        rubric = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{key}.rubric is {str(path)!r}, which can't be read ({error}).") from error
    found = set(_PLACEHOLDER.findall(rubric))
    if missing := REQUIRED[mode] - found:
        raise UserError(
            f"{path}: a rubric of the mode {mode} needs {{{min(missing)}}}, the place of the "
            f"answer; write it where it should stand ({key})."
        )
    if strange := found - REQUIRED[mode] - OPTIONAL[mode]:
        known = ", ".join(f"{{{name}}}" for name in sorted(REQUIRED[mode] | OPTIONAL[mode]))
        raise UserError(
            f"{path}: nothing stands for {{{min(strange)}}}; there are {known} ({key})."
        )
    return rubric


def fill(rubric: str, prompt: Prompt, answers: Mapping[str, str]) -> str:
    """Put a prompt's texts and answers into a rubric, in one pass, so braces in them stay."""
    speakers = ("User", "Assistant")
    texts = {
        "persona": "\n".join(f"- {sentence}" for sentence in prompt.persona),
        "dialogue": "\n".join(f"{speakers[i % 2]}: {turn}" for i, turn in enumerate(prompt.turns)),
        "golden_answer": prompt.golden_answer,
        **answers,
    }
    return _PLACEHOLDER.sub(lambda match: texts[match[1]], rubric)


def read_grade(reply: str, low: int, high: int) -> float | None:
    """The grade in a judge's reply: a whole number of the scale in `{"grade": 4}`; else None."""
    value = _field(reply, "grade")
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return None
    return float(value)


def read_better(reply: str) -> str | None:
    """The verdict in a judge's reply: A, B or tie in `{"better": "A"}`; else None."""
    value = _field(reply, "better")
    return value if isinstance(value, str) and value in POINTS else None


def _field(reply: str, name: str) -> object:
    """The value in the last JSON object of a text whose only field has this name.

    The last one, because a model may quote the rubric or reason before it decides.
    """
    value: object = None
    start = reply.find("{")
    while start >= 0:
        try:
            found, end = _decoder.raw_decode(reply, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            if found.keys() == {name}:
                value = found[name]
        start = reply.find("{", end)
    return value
