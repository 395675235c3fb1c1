"""Does the answer take up as many persona sentences as the golden answer does?

A metric that rewards the use of the persona can be gamed by answers that repeat all of it. Too
many sentences are as wrong as too few, so this counts them, by an NLI classifier, and compares the
count with the golden answer's.
"""

from collections.abc import Sequence
from typing import Literal

from persodpo.records import Prompt
from persodpo.score.judges import NliModel, stance
from persodpo.score.metric import Judge, Metric, Prompts, Responses, Values, answers_of


class PersonaUse(NliModel):
    """By how many persona sentences the answer takes up more or fewer than the golden answer."""

    kind: Literal["persona_use"]

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        return Metric(
            "Persona use gap",
            low=0,
            high=1,
            worst=1,
            version=1,
            needs=("persona", "golden_answer"),
            higher_is_better=False,
            # under another persona neither answer takes up a sentence, so the gap is the same
            questions=("echo",),
        )

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        judge = self.judge(key, batch_tokens)
        return score_persona_use(prompts, answers_of(responses), judge)


def score_persona_use(prompts: Sequence[Prompt], answers: Sequence[str], judge: Judge) -> Values:
    """Compare how many persona sentences the answers and the golden answers take up.

    Args:
        prompts: One per answer.
        answers: Shape (n,).
        judge: Gives the probabilities of contradiction, neutral, entailment of a
            (premise, hypothesis). An answer takes up a sentence that entails it.

    Returns:
        Shape (n,), in [0, 1]: the difference of the counts, whichever is larger, over the number
        of persona sentences; None of a persona without sentences.
    """
    asked = [
        (sentence, text)
        for prompt, answer in zip(prompts, answers, strict=True)
        for text in (answer, prompt.golden_answer)
        for sentence in prompt.persona
    ]
    taken_up = iter([stance(judgement) == 1 for judgement in judge(asked)])
    values: Values = []
    for prompt in prompts:
        of_answer, of_golden = (sum(next(taken_up) for _ in prompt.persona) for _ in range(2))
        gap = abs(of_answer - of_golden)
        values.append(gap / len(prompt.persona) if prompt.persona else None)
    return values
