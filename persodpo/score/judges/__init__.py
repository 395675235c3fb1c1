"""The models behind the metrics: each is shown texts and gives its judgement.

    nli.py, unieval.py, embeddings.py, word_vectors.py    one judge each
    persona.py         an NLI classifier and a sentence encoder together, for persona sentences
    judgements.py      each different input judged once, and stored for the next run
    checkpoints.py     loading; batches.py texts of like length together

The functions here make a judge that loads its model when the first input comes that it hasn't
judged before; so a stage whose judgements are all stored imports no model library.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field

from persodpo.config.sections import Text
from persodpo.models.locations import adapter_base, identity
from persodpo.score.judges.judgements import BatchJudge, cached_judge
from persodpo.score.judges.word_vectors import WordVectorJudge, load_word_vectors, vectors_hash
from persodpo.score.metric import Judge, Judgement, Scorer

# Each counts the changes of a judge here that change its judgements.
NLI_VERSION = 1
EMBEDDING_VERSION = 1
UNIEVAL_VERSION = 1
WORD_VECTORS_VERSION = 1


class JudgeModel(Scorer):
    """A metric behind which a checkpoint stands."""

    model: Text
    revision: Text | None

    def paths(self) -> list[str]:
        """See `Scorer.paths`."""
        return [self.model, *adapter_base(self.model)]


class NliModel(JudgeModel):
    """A metric by an NLI classifier; `labels` names its classes if its own names don't."""

    labels: Annotated[list[Text], Field(min_length=3, max_length=3)] | None

    def paths(self) -> list[str]:
        """See `Scorer.paths`."""
        return [*super().paths(), *_local_encoder(self.model)]

    def judge(self, where: str, batch_tokens: int) -> Judge:
        """The classifier; metrics share judgements where they share a model."""

        def load(name: str, revision: str | None, key: str) -> BatchJudge:
            from persodpo.score.judges.nli import NliJudge  # noqa: PLC0415

            nli = NliJudge(name, revision, self.labels, batch_tokens, key)
            if nli.persona_settings is None:
                return nli
            from persodpo.score.judges.embeddings import EmbeddingJudge  # noqa: PLC0415
            from persodpo.score.judges.persona import PersonaJudge, Settings  # noqa: PLC0415

            settings = Settings.model_validate(nli.persona_settings)
            encoder = EmbeddingJudge(settings.encoder, settings.revision, batch_tokens, key)
            return PersonaJudge(nli, encoder, settings)

        asked = {"judge": "nli", "version": NLI_VERSION, "labels": self.labels}
        for encoder in _local_encoder(self.model):
            asked["encoder"] = identity(encoder, None, f"{where}.model")
        return _judge(asked, self, where, load)


def _local_encoder(model: str) -> list[str]:
    """The folder of the sentence encoder that a local judge of personas names, if it is one.

    A packaged encoder, or one of the hub, is told by its name; a folder can change.
    """
    try:
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        encoder = config["persona_judge"]["encoder"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # whether it can be loaded is told when it is
    return [encoder] if isinstance(encoder, str) and Path(encoder).is_dir() else []


def stance(judgement: Judgement) -> int:
    """An NLI judge's likeliest class as -1 (contradiction), 0 (neutral) or 1 (entailment)."""
    assert judgement is not None  # an NLI classifier always tells
    return judgement.index(max(judgement)) - 1


def embedding_judge(section: JudgeModel, where: str, batch_tokens: int) -> Judge:
    """Gives the cosine of two texts' sentence embeddings."""

    def load(name: str, revision: str | None, key: str) -> BatchJudge:
        from persodpo.score.judges.embeddings import EmbeddingJudge  # noqa: PLC0415

        return EmbeddingJudge(name, revision, batch_tokens, key)

    return _judge({"judge": "embedding", "version": EMBEDDING_VERSION}, section, where, load)


def unieval_judge(section: JudgeModel, where: str, batch_tokens: int) -> Judge:
    """Gives P(Yes) / (P(Yes) + P(No)) of an answer and the turns before it."""

    def load(name: str, revision: str | None, key: str) -> BatchJudge:
        from persodpo.score.judges.unieval import UniEvalJudge  # noqa: PLC0415

        return UniEvalJudge(name, revision, batch_tokens, key)

    return _judge({"judge": "unieval", "version": UNIEVAL_VERSION}, section, where, load)


def _judge(
    asked: dict[str, object],
    section: JudgeModel,
    where: str,
    load: Callable[[str, str | None, str], BatchJudge],
) -> Judge:
    """A judge by a checkpoint, told from others by what is asked of it and by its weights."""
    model = (section.model, section.revision, f"{where}.model")
    return cached_judge(asked | identity(*model), lambda: load(*model))


def word_vector_judge(vectors: str, key: str) -> Judge:
    """Gives the cosine of two texts' mean word vectors."""
    return cached_judge(
        {
            "judge": "word vectors",
            "version": WORD_VECTORS_VERSION,
            "weights": vectors_hash(vectors, key),
        },
        lambda: WordVectorJudge(load_word_vectors(vectors, key)),
    )
