"""The sections `scoring` and `pairing` of `params.yaml`: from sub-scores to preference pairs.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml`, and the formulas in `persodpo.pair.scoring` and `persodpo.pair.pairing`.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from persodpo.config.sections import Key, Section, Seed

Strategy = Literal["margin", "best_worst", "quantile", "valid_invalid"]
PairSet = Literal["dpo", "persodpo"]
PairText = Literal["raw", "rewrapped"]
Quantile = Annotated[float, Field(ge=0, le=1)]


class LengthParams(Section):
    """How an answer's length is scored."""

    formula: Literal["quadratic", "bonus", "released"]
    target: Literal["pool_mean", "limit"] | PositiveFloat

    @field_validator("target", mode="before")
    @classmethod
    def _check_target(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        is_number = is_number and 0 < value < math.inf
        if value not in ("pool_mean", "limit") and not is_number:
            raise ValueError("this must be pool_mean, limit, or a number of words above 0")
        return value


class ScoringParams(Section):
    """How sub-scores become a total score (paper, section 3.1)."""

    normalisation: Literal["range", "minmax"]
    weights: dict[Key, NonNegativeFloat]
    w1: NonNegativeFloat
    w2: NonNegativeFloat
    length: LengthParams

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, value: dict[str, float]) -> dict[str, float]:
        if not any(value.values()):
            raise ValueError("at least one metric must have a weight above 0")
        return value


class ChecksParams(Section):
    """The limits of the checks of the pairs; null for none."""

    on_excess: Literal["warn", "strict"]
    length_d: NonNegativeFloat | None
    near_duplicates: Quantile | None
    conflicting_texts: Quantile | None
    decided_by_format: Quantile | None
    decided_by_length: Quantile | None
    decided_by_both: Quantile | None
    valid_overlap: Quantile | None

    def limits(self) -> dict[str, float | None]:
        """The limits by the names of the checks."""
        return self.model_dump(exclude={"on_excess"})


class PairingParams(Section):
    """Which scored responses become preference pairs, and what a pair shows of them."""

    strategy: Strategy
    margin: NonNegativeFloat
    low_quantile: Quantile
    high_quantile: Quantile
    text: PairText
    unanswered: Literal["keep", "drop"]
    max_per_prompt: PositiveInt | None
    cap: Literal["random", "largest_margin"]
    seed: Seed
    match_length: PositiveFloat | None
    checks: ChecksParams

    @model_validator(mode="after")
    def _check_quantiles(self) -> Self:
        if self.low_quantile > self.high_quantile:
            raise ValueError(
                f"low_quantile is {self.low_quantile:g}, above high_quantile, which is "
                f"{self.high_quantile:g}; swap them"
            )
        return self
