"""The section `sample` of `params.yaml`: which dialogues become prompts.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or data/README.md.
"""

from typing import Literal

from pydantic import PositiveInt, field_validator

from persodpo.config.sections import Section, Seed, Text
from persodpo.prompts import PersonaOf


class SampleParams(Section):
    """Which dialogues become prompts."""

    train_file: Text
    valid_file: Text
    n_train: PositiveInt
    n_valid: PositiveInt
    seed: Seed
    persona_of: PersonaOf
    rounds: Literal["last", "all"]
    max_turns: PositiveInt | None
    max_words: PositiveInt
    overlap: Literal["refuse", "leave_out"]

    @field_validator("max_turns")
    @classmethod
    def _check_turns(cls, value: int | None) -> int | None:
        if value is not None and value % 2 == 0:
            raise ValueError(
                f"this must be odd, so that User1 speaks first and last, not {value}; or null for "
                "all turns"
            )
        return value
