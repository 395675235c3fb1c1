"""What all sections of params.yaml share: how strict they are, and types of their keys."""

import datetime
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

# Keys become file names, arguments and names of stages, and parts of DVC's dotted parameter paths.
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]*$", max_length=100)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes
Text = Annotated[str, StringConstraints(min_length=1)]


def _day(value: str) -> str:
    try:
        # fromisoformat also takes weeks and days without dashes
        is_day = str(datetime.date.fromisoformat(value)) == value
    except ValueError:
        is_day = False
    if not is_day:
        raise ValueError(f"this must be a day such as 2026-01-01, not {value!r}")
    return value


Day = Annotated[str, AfterValidator(_day)]


def dotted_key(parts: Iterable[str | int]) -> str:
    """The way to a value as DVC and Hydra write it, such as `models.m.stop[0]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no conversion of types, no inf or nan."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        """Refuse an unknown key, as pydantic would, but name those that are known."""
        if isinstance(data, dict) and cls.model_config["extra"] == "forbid":
            unknown = [str(key) for key in data if key not in cls.model_fields]
            if unknown:
                raise PydanticCustomError(
                    "unknown_key",
                    "{key} is an unknown key; the keys there are {known}",
                    {"key": unknown[0], "known": ", ".join(cls.model_fields)},
                )
        return data


class StageParams(Section):
    """Base of what a stage reads: some sections of params.yaml, whatever else stands there."""

    model_config = ConfigDict(extra="ignore")


class WordLimit(StageParams):
    """What several stages read of the section `sample`: the most words an answer may have."""

    max_words: PositiveInt
