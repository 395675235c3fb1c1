"""`nli/params.yaml`: the classifiers that can be trained, read and checked in one place."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from persodpo.config.reading import read_params
from persodpo.config.sections import Key, Section, Seed, Text

NLI_FOLDER = Path("nli")

Share = Annotated[float, Field(gt=0, lt=1)]


class TrainingParams(Section):
    """The base model of a classifier and its training."""

    base: Text
    revision: Text | None
    lora_r: PositiveInt | None
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    epochs: PositiveFloat
    batch_size: PositiveInt
    max_length: PositiveInt
    seed: Seed


class ClassifierParams(TrainingParams):
    """One classifier: its data and its training."""

    folder: Text
    train_file: Text
    test_file: Text | None
    held_out: Share | None
    premise: Text
    hypothesis: Text
    label: Text
    unrelated: NonNegativeFloat

    @model_validator(mode="after")
    def _one_test_set(self) -> Self:
        if (self.test_file is None) == (self.held_out is None):
            raise ValueError("give either test_file or held_out, and null for the other")
        return self


class PersonaJudgeParams(TrainingParams):
    """A classifier for persona sentences and answers, and the encoder beside it."""

    start: Key
    general: NonNegativeInt
    dialogues: Text
    marks: Text
    people: Text
    exchanged: NonNegativeInt
    held_out: Share
    encoder: Text
    encoder_revision: Text | None
    nearest: Annotated[float, Field(ge=-1, le=1)]
    false_contradictions: Share


class NliParams(Section):
    """The whole of `nli/params.yaml`."""

    classifiers: Annotated[dict[Key, ClassifierParams], Field(min_length=1)]
    persona_judges: dict[Key, PersonaJudgeParams]

    @model_validator(mode="after")
    def _known_starts(self) -> Self:
        for key, judge in self.persona_judges.items():
            if judge.start not in self.classifiers:
                raise ValueError(
                    f"persona_judges.{key}.start is {judge.start!r}, which is no key of "
                    f"classifiers; the keys there are {', '.join(self.classifiers)}"
                )
            if judge.base != self.classifiers[judge.start].base:
                raise ValueError(
                    f"persona_judges.{key}.base must be that of its start {judge.start!r}, "
                    f"{self.classifiers[judge.start].base!r}, since both are written as changes "
                    "of it"
                )
        return self


def load_nli_params(folder: Path = NLI_FOLDER) -> NliParams:
    """Read and check `nli/params.yaml`.

    Raises:
        UserError: See `persodpo.workflow.params.read_params`.
    """
    return read_params(NliParams, folder / "params.yaml")
