"""C, consistency: does the answer follow from the persona, or contradict it?

An NLI classifier judges persona (premise) against answer (hypothesis): -1 for
contradiction, 0 for neutral, 1 for entailment. `joint` judges the joined persona
sentences once (PersoBench, Afzoon et al., arXiv:2410.03198); `sum` judges each
sentence and adds (Madotto et al., ACL 2019, arXiv:1905.10033), `mean` divides that
by their number. `any` is this project's own: an answer need not use every sentence, but must
contradict none. It keeps the probability: the largest P(entailment) of a sentence, or, if a
sentence is contradicted, minus the largest P(contradiction).
"""

from collections.abc import Sequence
from typing import Literal

from persodpo.errors import UserError
from persodpo.records import Prompt
from persodpo.score.judges import NliModel, stance
from persodpo.score.metric import Judge, Judgement, Metric, Prompts, Responses, Values, answers_of

Aggregate = Literal["any", "joint", "mean", "sum"]
# FoCUS's number of persona sentences, which bounds the sum.
MOST_SENTENCES = 5


class Consistency(NliModel):
    """C by an NLI classifier."""

    kind: Literal["consistency"]
    aggregate: Aggregate

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        high = MOST_SENTENCES if self.aggregate == "sum" else 1
        label = "C" if self.aggregate == "joint" else f"C ({self.aggregate})"
        return Metric(
            label,
            low=-high,
            high=high,
            worst=-high,
            version=2,
            needs=("persona",),
            used_above=0.5 if self.aggregate == "any" else 0,
            contradicted_below=0,
        )

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`.

        Raises:
            UserError: `sum` of a persona with more than five sentences, whose range the metric
                doesn't have; or the model can't be found or used.
        """
        if self.aggregate == "sum":
            for prompt in prompts:
                if len(prompt.persona) > MOST_SENTENCES:
                    raise UserError(
                        f"{key}.aggregate is sum, for personas of up to {MOST_SENTENCES} "
                        f"sentences, but the one of prompt {prompt.id!r} has "
                        f"{len(prompt.persona)}; take mean."
                    )
        judge = self.judge(key, batch_tokens)
        return score_consistency(prompts, answers_of(responses), judge, self.aggregate)


def score_consistency(
    prompts: Sequence[Prompt], answers: Sequence[str], judge: Judge, aggregate: Aggregate
) -> Values:
    """Score answers against their personas.

    Args:
        prompts: One per answer.
        answers: Shape (n,).
        judge: Gives the probabilities of contradiction, neutral, entailment of a
            (premise, hypothesis).
        aggregate: How several persona sentences make one value.

    Returns:
        Shape (n,): -1, 0 or 1; a number between for `any` and `mean`; for `sum` a whole number,
        at most the number of sentences either way. None of a persona without sentences.
    """
    premises = [
        [" ".join(prompt.persona)] if aggregate == "joint" else prompt.persona for prompt in prompts
    ]
    judged = iter(
        judge(
            [(one, answer) for ones, answer in zip(premises, answers, strict=True) for one in ones]
        )
    )
    return [_aggregated([next(judged) for _ in ones], aggregate) for ones in premises]


def _aggregated(judgements: Sequence[Judgement], aggregate: Aggregate) -> float | None:
    """One value of what a judge gives for each premise."""
    if not judgements:
        return None
    stances = [stance(judgement) for judgement in judgements]
    if aggregate == "any":
        # a classifier always tells, as `stance` checks
        known = [judgement for judgement in judgements if judgement is not None]
        return -max(p[0] for p in known) if -1 in stances else max(p[2] for p in known)
    return sum(stances) / (len(stances) if aggregate == "mean" else 1)
