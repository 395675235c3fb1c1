"""The section `scorers` of `params.yaml`: which model stands behind each metric.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/metrics.md.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from persodpo.config.sections import Key, Section, Text

Aggregate = Literal["joint", "mean", "sum"]
SecondPremise = Literal["golden_answer", "last_turn"]


class NliModel(Section):
    """An NLI classifier; `labels` names its classes in their order if its own names don't."""

    scorer: Literal["nli"]
    model: Text
    revision: Text | None
    labels: Annotated[list[Text], Field(min_length=3, max_length=3)] | None


class NliConsistency(NliModel):
    """C by an NLI classifier."""

    aggregate: Aggregate


class NliEntailment(NliModel):
    """UE by an NLI classifier."""

    second_premise: SecondPremise


class WordVectorDistance(Section):
    """P by word vectors."""

    scorer: Literal["word_vectors"]
    vectors: Text


class EmbeddingCoherence(Section):
    """Coh by the cosine of sentence embeddings."""

    scorer: Literal["embedding"]
    model: Text
    revision: Text | None


class UniEvalCoherence(Section):
    """Coh by UniEval's question to a seq2seq model."""

    scorer: Literal["unieval"]
    model: Text
    revision: Text | None


class LoggedMetric(Section):
    """Values that somebody published, in a column of the files in `scorers.logged`."""

    scorer: Literal["logged"]
    column: Text


class LoggedFiles(Section):
    """A file of published values per model of the pool; rows by id or number."""

    files: Annotated[dict[Key, Text], Field(min_length=1)]
    id_column: Text | None


class ScorersParams(Section):
    """What stands behind the metrics C, UE, P and Coh."""

    c: Annotated[NliConsistency | LoggedMetric, Field(discriminator="scorer")]
    ue: Annotated[NliEntailment | LoggedMetric, Field(discriminator="scorer")]
    p: Annotated[WordVectorDistance | LoggedMetric, Field(discriminator="scorer")]
    coh: Annotated[
        EmbeddingCoherence | UniEvalCoherence | LoggedMetric, Field(discriminator="scorer")
    ]
    logged: LoggedFiles | None
    batch_tokens: PositiveInt

    @model_validator(mode="after")
    def _check_logged(self) -> Self:
        for key in ("c", "ue", "p", "coh"):
            if isinstance(getattr(self, key), LoggedMetric) and self.logged is None:
                raise ValueError(
                    f"{key} is logged, but logged is null; name the files there (docs/metrics.md)"
                )
        return self

    def files(self) -> list[str]:
        """Everything named here that may be a file or a folder, without repetitions."""
        named = [
            *(getattr(getattr(self, key), "model", None) for key in ("c", "ue", "coh")),
            getattr(self.p, "vectors", None),
            *(self.logged.files.values() if self.logged else ()),
        ]
        return list(dict.fromkeys(name for name in named if name))
