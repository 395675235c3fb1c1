"""UE, utterance entailment: is the answer entailed by the persona, and by the golden answer?

One point if the persona entails the answer, and a second if the golden answer entails
it too, so the score is 0, 1 or 2. Source: PersoBench's code (Afzoon et al.,
arXiv:2410.03198). The second premise may be the dialogue's last turn instead.

`joint` judges the joined persona, as PersoBench does. `any` is this project's own: the persona
entails the answer if one of its sentences does and none contradicts it.
"""

from collections.abc import Sequence
from typing import Literal

from persodpo.records import Prompt
from persodpo.score.judges import NliModel, stance
from persodpo.score.metric import Judge, Metric, Need, Prompts, Responses, Values, answers_of

Aggregate = Literal["any", "joint"]
SecondPremise = Literal["golden_answer", "last_turn"]


class Entailment(NliModel):
    """UE by an NLI classifier."""

    kind: Literal["entailment"]
    aggregate: Aggregate
    second_premise: SecondPremise

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        marks = [
            *(["any"] if self.aggregate == "any" else []),
            *(["last turn"] if self.second_premise == "last_turn" else []),
        ]
        label = f"UE ({', '.join(marks)})" if marks else "UE"
        needs: tuple[Need, Need] = ("persona", self.second_premise)
        return Metric(label, low=0, high=2, worst=0, version=2, needs=needs, used_above=0)

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        judge = self.judge(key, batch_tokens)
        return score_entailment(
            prompts, answers_of(responses), judge, self.aggregate, self.second_premise
        )


def score_entailment(
    prompts: Sequence[Prompt],
    answers: Sequence[str],
    judge: Judge,
    aggregate: Aggregate,
    second_premise: SecondPremise,
) -> Values:
    """Score answers by what entails them.

    Args:
        prompts: One per answer.
        answers: Shape (n,).
        judge: Gives the probabilities of contradiction, neutral, entailment of a
            (premise, hypothesis). The second premise is judged only where the first
            entails the answer, because it can't change the value elsewhere.
        aggregate: What the persona is: its joined sentences, or each of them.
        second_premise: The golden answer, or the dialogue's last turn.

    Returns:
        Shape (n,): 0, 1 or 2.
    """
    premises = [p.persona if aggregate == "any" else [" ".join(p.persona)] for p in prompts]
    asked = [(one, a) for ones, a in zip(premises, answers, strict=True) for one in ones]
    stances = iter([stance(judgement) for judgement in judge(asked)])
    points = [_point([next(stances) for _ in ones]) for ones in premises]
    entailed = [i for i, point in enumerate(points) if point]
    second = judge(
        [
            (p.golden_answer if second_premise == "golden_answer" else p.turns[-1], answers[i])
            for i, p in ((i, prompts[i]) for i in entailed)
        ]
    )
    for i, judgement in zip(entailed, second, strict=True):
        points[i] += stance(judgement) == 1
    return [float(point) for point in points]


def _point(stances: Sequence[int]) -> int:
    """1 if some premise entails the answer and none contradicts it, else 0."""
    return int(1 in stances and -1 not in stances)
