"""`nli/params.yaml`: the classifiers that can be trained, read and checked in one place."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from persodpo.config.reading import read_params
from persodpo.config.sections import Key, Section, Seed, Text

NLI_FOLDER = Path("nli")

Share = Annotated[float, Field(gt=0, lt=1)]


class ClassifierParams(Section):
    """One classifier: its data, its base model and its training."""

    folder: Text
    train_file: Text
    test_file: Text | None
    held_out: Share | None
    premise: Text
    hypothesis: Text
    label: Text
    unrelated: NonNegativeFloat
    base: Text
    revision: Text | None
    lora_r: PositiveInt | None
    learning_rate: Annotated[float, Field(gt=0, lt=1)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    epochs: PositiveFloat
    batch_size: PositiveInt
    max_length: PositiveInt
    seed: Seed

    @model_validator(mode="after")
    def _one_test_set(self) -> Self:
        if (self.test_file is None) == (self.held_out is None):
            raise ValueError("give either test_file or held_out, and null for the other")
        return self


class NliParams(Section):
    """The whole of `nli/params.yaml`."""

    classifiers: Annotated[dict[Key, ClassifierParams], Field(min_length=1)]


def load_nli_params(folder: Path = NLI_FOLDER) -> NliParams:
    """Read and check `nli/params.yaml`.

    Raises:
        UserError: See `persodpo.workflow.params.read_params`.
    """
    return read_params(NliParams, folder / "params.yaml")
