"""Cosines of sentence embeddings: of the answer and the last turn, or of it and the golden answer.

The former is a small stand-in for the paper's Coh-UniEval, under a name of its own; the latter
tells how near an answer is to what people said. A negative cosine counts as 0.
"""

from collections.abc import Sequence
from typing import Literal

from persodpo.records import Prompt
from persodpo.score.judges import JudgeModel, embedding_judge
from persodpo.score.metric import Judge, Metric, Prompts, Responses, Values, answers_of

Other = Literal["last_turn", "golden_answer"]


class Embedding(JudgeModel):
    """The cosine of the sentence embeddings of the answer and another text."""

    kind: Literal["embedding"]
    other: Other

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        model = "MiniLM" if "minilm" in self.model.lower() else "embedding"
        label = f"Coh-{model}" if self.other == "last_turn" else f"Golden-{model}"
        return Metric(label, low=0, high=1, worst=0, version=1, needs=(self.other,))

    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """See `Scorer.values`."""
        judge = embedding_judge(self, key, batch_tokens)
        return score_embedding(prompts, answers_of(responses), judge, self.other)


def score_embedding(
    prompts: Sequence[Prompt], answers: Sequence[str], judge: Judge, other: Other
) -> Values:
    """Score answers by their likeness to another text.

    Args:
        prompts: One per answer.
        answers: Shape (n,).
        judge: Gives the cosine of two texts' embeddings.
        other: What they are compared with: the turn that they answer, or the golden answer.

    Returns:
        Shape (n,), in [0, 1].
    """
    others = [p.turns[-1] if other == "last_turn" else p.golden_answer for p in prompts]
    judged = judge(list(zip(others, answers, strict=True)))
    return [None if judgement is None else max(judgement[0], 0.0) for judgement in judged]
