"""Does an answer use a persona sentence, or contradict it? Two small models, each for what it sees.

A sentence encoder tells whether the answer speaks of what the sentence says, which a small NLI
classifier can't; the classifier tells whether it says the opposite, which an encoder can't, since
"I love castles" and "you hate castles" lie close together:

    r = sigmoid(slope * (cosine of sentence and answer - midpoint))
    c = the classifier's P(contradiction) of the sentence and the answer's nearest sentence, as odds
        over those of `threshold`; 0 if nothing in the answer is as near as `nearest`
    contradiction c, neutral (1 - c)(1 - r), entailment (1 - c) r

`slope` and `midpoint` are fitted on training dialogues, `threshold` is chosen on held-out ones (see
persodpo.score.train_nli.persona_judge), and `nearest` is a setting. All four stand in the
classifier's configuration, under `persona_judge`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from pydantic import BaseModel, ConfigDict
from scipy.special import expit, logit

from persodpo.score.judges.judgements import BatchJudge
from persodpo.score.metric import Judgement, Texts

CONFIG_KEY = "persona_judge"
# So many inputs are judged together, and kept together.
PART = 1024
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")


class Cosines(Protocol):
    """Cosines of sentence embeddings, by the two texts."""

    def __getitem__(self, texts: Texts) -> float:
        """The cosine of two texts."""


class Settings(BaseModel):
    """What stands in the classifier's configuration.

    Attributes:
        encoder: The sentence encoder (see `persodpo.models.locations`).
        revision: The commit of a Hugging Face id, else None.
        slope: How fast an answer passes from unrelated to related, per unit of the cosine.
        midpoint: The cosine of an answer that is as likely related as not.
        nearest: An answer none of whose sentences has this cosine can't contradict.
        threshold: P(contradiction) from which an answer is called a contradiction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: str
    revision: str | None
    slope: float
    midpoint: float
    nearest: float
    threshold: float


class PersonaJudge:
    """A loaded classifier with the sentence encoder beside it.

    Args:
        nli: The classifier; gives P(contradiction) first.
        encoder: The sentence encoder; gives the cosine of two texts.
        settings: How the two are put together.
    """

    def __init__(self, nli: BatchJudge, encoder: BatchJudge, settings: Settings) -> None:
        self._nli, self._encoder, self._settings = nli, encoder, settings

    def __call__(self, pairs: Sequence[Texts]) -> Iterator[list[tuple[Texts, Judgement]]]:
        """Judge (persona sentence, answer) pairs.

        Yields:
            Some pairs at a time, each with the probabilities of contradiction, neutral and
            entailment.
        """
        for start in range(0, len(pairs), PART):
            part = pairs[start : start + PART]
            texts = [(one, text) for one, answer in part for text in [answer, *sentences(answer)]]
            cosines = _first_numbers(self._encoder, texts)
            nearest: dict[Texts, Texts] = {
                (one, answer): (one, nearest_sentence(one, answer, cosines)) for one, answer in part
            }
            close = [
                near
                for pair, near in nearest.items()
                if max(cosines[near], cosines[pair]) >= self._settings.nearest
            ]
            against = _first_numbers(self._nli, close)
            yield [
                (pair, combine(cosines[pair], against.get(nearest[pair]), self._settings))
                for pair in part
            ]


def sentences(text: str) -> list[str]:
    """The sentences of a text, the whole of it if it has one; a semicolon ends one, too."""
    return [part for part in _SENTENCE_END.split(text.strip()) if part] or [text]


def nearest_sentence(one: str, answer: str, cosines: Cosines) -> str:
    """The sentence of an answer that is nearest to another text; of equal ones the first."""
    return max(sentences(answer), key=lambda text: cosines[one, text])


def _first_numbers(judge: BatchJudge, inputs: Sequence[Texts]) -> dict[Texts, float]:
    """The first number that a judge gives for each different input."""
    different = list(dict.fromkeys(inputs))
    batches = judge(different) if different else ()
    return {
        texts: judgement[0]
        for batch in batches
        for texts, judgement in batch
        if judgement is not None
    }


def combine(cosine: float, contradiction: float | None, settings: Settings) -> list[float]:
    """The probabilities of contradiction, neutral and entailment (see the module's formula).

    Args:
        cosine: Of the persona sentence and the answer, in [-1, 1].
        contradiction: The classifier's probability of the nearest sentence; None if it is too far.
        settings: The fitted numbers.
    """
    related = float(expit(settings.slope * (cosine - settings.midpoint)))
    against = 0.0
    if contradiction is not None:
        against = float(expit(logit(contradiction) - logit(settings.threshold)))
    return [against, (1 - against) * (1 - related), (1 - against) * related]
