"""Coh, coherence: does the answer belong to the dialogue?

`unieval` is the paper's Coh-UniEval (Zhong et al., EMNLP 2022, arXiv:2210.07197):
the probability with which a seq2seq model says that the answer is coherent given the
dialogue. `embedding` is a small stand-in, the cosine of the sentence embeddings of the
last turn and the answer, in which a negative cosine counts as 0; it is never reported
under UniEval's name.
"""

from collections.abc import Sequence

from persodpo.config.scorers import EmbeddingCoherence, LoggedMetric, ScorersParams
from persodpo.records import Prompt
from persodpo.score.metric import Judge, Metric, Values

VERSION = 1


def coherence_metric(params: ScorersParams) -> Metric:
    """What the values of Coh mean, and which of the scorers they come from."""
    coh = params.coh
    if isinstance(coh, LoggedMetric):
        label = f"{coh.column} (logged)"
    elif isinstance(coh, EmbeddingCoherence):
        label = "Coh-MiniLM" if "minilm" in coh.model.lower() else "Coh-embedding"
    else:
        label = "Coh-UniEval"
    return Metric(label, low=0, high=1, worst=0, version=VERSION)


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
