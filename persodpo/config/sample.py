"""The section `sample` of `params.yaml`: which dialogues become prompts.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or data/README.md.
"""

from typing import Literal

from pydantic import PositiveInt

from persodpo.config.sections import Section, Seed, Text


class SampleParams(Section):
    """Which dialogues become prompts."""

    train_file: Text
    valid_file: Text
    n_train: PositiveInt
    n_valid: PositiveInt
    seed: Seed
    max_words: PositiveInt
    overlap: Literal["refuse", "leave_out"]
