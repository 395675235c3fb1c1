"""The section `generate` of `params.yaml`: how models answer.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/generation.md.
"""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from persodpo.config.sections import Day, Section, Text
from persodpo.prompts import ContractRule


class GenerateParams(Section):
    """How the models of the pool and the evaluated candidates answer."""

    max_tokens: PositiveInt
    contract: ContractRule
    date: Day
    batch_size: PositiveInt | None
    dtype: Literal["auto", "float32", "bfloat16"]
    max_refused: NonNegativeInt
    max_cost_usd: NonNegativeFloat
    prices: Text
