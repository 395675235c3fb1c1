"""The models behind the metrics: each is shown texts and gives its judgement.

    nli.py, unieval.py, embeddings.py, word_vectors.py    one judge each
    judgements.py      each different input judged once, and stored for the next run
    checkpoints.py     loading; batches.py texts of like length together

The functions here make a judge that loads its model when the first input comes that it hasn't
judged before; so a stage whose judgements are all stored imports no model library.
"""

from typing import Annotated

from pydantic import Field

from persodpo.config.sections import Text
from persodpo.models.locations import identity
from persodpo.score.judges.judgements import BatchJudge, cached_judge
from persodpo.score.metric import Judge, Judgement, Scorer

# Counts the changes of each judge here that change judgements.
NLI_VERSION = EMBEDDING_VERSION = UNIEVAL_VERSION = WORD_VECTORS_VERSION = 1


class JudgeModel(Scorer):
    """A metric behind which a checkpoint stands."""

    model: Text
    revision: Text | None

    def paths(self) -> list[str]:
        """See `Scorer.paths`."""
        return [self.model]


class NliModel(JudgeModel):
    """A metric by an NLI classifier; `labels` names its classes if its own names don't."""

    labels: Annotated[list[Text], Field(min_length=3, max_length=3)] | None

    def judge(self, where: str, batch_tokens: int) -> Judge:
        """The classifier; metrics share judgements where they share a model."""
        key = f"{where}.model"

        def load() -> BatchJudge:
            from persodpo.score.judges.nli import NliJudge  # noqa: PLC0415

            return NliJudge(self.model, self.revision, self.labels, batch_tokens, key)

        weights = identity(self.model, self.revision, key)
        return cached_judge(
            {"judge": "nli", "version": NLI_VERSION, "labels": self.labels, **weights}, load
        )


def stance(judgement: Judgement) -> int:
    """An NLI judge's likeliest class as -1 (contradiction), 0 (neutral) or 1 (entailment)."""
    assert judgement is not None  # an NLI classifier always tells
    return judgement.index(max(judgement)) - 1


def embedding_judge(section: JudgeModel, where: str, batch_tokens: int) -> Judge:
    """Gives the cosine of two texts' sentence embeddings."""
    model, key = (section.model, section.revision), f"{where}.model"

    def load() -> BatchJudge:
        from persodpo.score.judges.embeddings import EmbeddingJudge  # noqa: PLC0415

        return EmbeddingJudge(*model, batch_tokens, key)

    return cached_judge(
        {"judge": "embedding", "version": EMBEDDING_VERSION, **identity(*model, key)}, load
    )


def unieval_judge(section: JudgeModel, where: str, batch_tokens: int) -> Judge:
    """Gives P(Yes) / (P(Yes) + P(No)) of an answer and the turns before it."""
    model, key = (section.model, section.revision), f"{where}.model"

    def load() -> BatchJudge:
        from persodpo.score.judges.unieval import UniEvalJudge  # noqa: PLC0415

        return UniEvalJudge(*model, batch_tokens, key)

    return cached_judge(
        {"judge": "unieval", "version": UNIEVAL_VERSION, **identity(*model, key)}, load
    )


def word_vector_judge(vectors: str, key: str) -> Judge:
    """Gives the cosine of two texts' mean word vectors."""
    from persodpo.score.judges import word_vectors  # noqa: PLC0415

    return cached_judge(
        {
            "judge": "word vectors",
            "version": WORD_VECTORS_VERSION,
            "weights": word_vectors.vectors_hash(vectors, key),
        },
        lambda: word_vectors.WordVectorJudge(word_vectors.load_word_vectors(vectors, key)),
    )
