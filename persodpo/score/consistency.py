"""C, consistency: does the answer follow from the persona, or contradict it?

An NLI classifier judges persona (premise) against answer (hypothesis): -1 for
contradiction, 0 for neutral, 1 for entailment. `joint` judges the joined persona
sentences once (PersoBench, Afzoon et al., arXiv:2410.03198); `sum` judges each
sentence and adds (Madotto et al., ACL 2019, arXiv:1905.10033), `mean` divides that
by their number.
"""

from collections.abc import Sequence

from persodpo.config.scorers import Aggregate, LoggedMetric, ScorersParams
from persodpo.errors import UserError
from persodpo.records import Prompt
from persodpo.score.metric import Judge, Judgement, Metric, Values

VERSION = 2
# FoCUS's number of persona sentences, which bounds the sum.
MOST_SENTENCES = 5


def consistency_metric(params: ScorersParams) -> Metric:
    """What the values of C mean."""
    c = params.c
    if isinstance(c, LoggedMetric):
        return Metric("C (logged)", low=-1, high=1, worst=-1, version=VERSION)
    high = MOST_SENTENCES if c.aggregate == "sum" else 1
    label = "C" if c.aggregate == "joint" else f"C ({c.aggregate})"
    return Metric(label, low=-high, high=high, worst=-high, version=VERSION)


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
        Shape (n,): -1, 0 or 1; a number between for `mean`; a whole number of at most
        five either way for `sum`.

    Raises:
        UserError: `sum` of a persona with more than five sentences, whose range the
            metric doesn't have.
    """
    premises = [
        [" ".join(prompt.persona)] if aggregate == "joint" else prompt.persona for prompt in prompts
    ]
    if aggregate == "sum":
        for prompt in prompts:
            if len(prompt.persona) > MOST_SENTENCES:
                raise UserError(
                    f"params.yaml: scorers.c.aggregate is sum, for personas of up to "
                    f"{MOST_SENTENCES} sentences, but the one of prompt {prompt.id!r} has "
                    f"{len(prompt.persona)}; take mean."
                )
    judged = iter(
        judge(
            [(one, answer) for ones, answer in zip(premises, answers, strict=True) for one in ones]
        )
    )
    values: Values = []
    for ones in premises:
        total = sum(stance(next(judged)) for _ in ones)
        values.append(total / len(ones) if aggregate == "mean" else float(total))
    return values


def stance(judgement: Judgement) -> int:
    """The likeliest class as -1 (contradiction), 0 (neutral) or 1 (entailment)."""
    assert judgement is not None  # an NLI classifier always tells
    return judgement.index(max(judgement)) - 1
