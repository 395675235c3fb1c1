"""Coh-UniEval, the paper's coherence: does a seq2seq model call the answer coherent?

The probability with which UniEval's checkpoint says that the answer is coherent given the
dialogue. Source: Zhong et al., EMNLP 2022, arXiv:2210.07197.
"""

from collections.abc import Sequence
from typing import Literal

from persodpo.records import Prompt
from persodpo.score.judges import JudgeModel, unieval_judge
from persodpo.score.metric import Judge, Metric, Prompts, Responses, Values, answers_of


class UniEval(JudgeModel):
    """Coh by UniEval's question to a seq2seq model."""

    kind: Literal["unieval"]

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        return Metric("Coh-UniEval", low=0, high=1, worst=0, version=1, needs=("dialogue",))

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        judge = unieval_judge(self, key, batch_tokens)
        return score_unieval_coherence(prompts, answers_of(responses), judge)


def score_unieval_coherence(
    prompts: Sequence[Prompt], answers: Sequence[str], judge: Judge
) -> Values:
    """Score answers by UniEval's question.

    Args:
        prompts: One per answer.
        answers: Shape (n,).
        judge: Gives P(Yes) / (P(Yes) + P(No)) of an answer and the turns before it.

    Returns:
        Shape (n,), in [0, 1].
    """
    judged = judge([(a, *p.turns) for p, a in zip(prompts, answers, strict=True)])
    return [None if judgement is None else judgement[0] for judgement in judged]
