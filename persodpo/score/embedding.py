"""Coh by sentence embeddings: is the answer near to the turn that it answers?

A small stand-in for the paper's Coh-UniEval, under a name of its own: the cosine of the sentence
embeddings of the last turn and the answer, in which a negative cosine counts as 0.
"""

from collections.abc import Sequence
from typing import Literal

from persodpo.records import Prompt
from persodpo.score.judges import JudgeModel, embedding_judge
from persodpo.score.metric import Judge, Metric, Prompts, Responses, Values, answers_of


class Embedding(JudgeModel):
    """Coh by the cosine of sentence embeddings."""

    kind: Literal["embedding"]

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        label = "Coh-MiniLM" if "minilm" in self.model.lower() else "Coh-embedding"
        return Metric(label, low=0, high=1, worst=0, version=1, needs=("last_turn",))

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        judge = embedding_judge(self, key, batch_tokens)
        return score_embedding_coherence(prompts, answers_of(responses), judge)


def score_embedding_coherence(
    prompts: Sequence[Prompt], answers: Sequence[str], judge: Judge
) -> Values:
    """Score answers by their likeness to the turn they answer.

    Args:
        prompts: One per answer.
        answers: Shape (n,).
        judge: Gives the cosine of two texts' embeddings.

    Returns:
        Shape (n,), in [0, 1].
    """
    judged = judge([(p.turns[-1], a) for p, a in zip(prompts, answers, strict=True)])
    return [None if judgement is None else max(judgement[0], 0.0) for judgement in judged]
