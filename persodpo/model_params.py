"""The sections below `models` in `params.yaml`, one per backend, and what all sections share.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/generation.md.
"""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    field_validator,
)

# Keys become file names, stage names and parts of DVC's dotted parameter paths.
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes
Text = Annotated[str, StringConstraints(min_length=1)]


class Section(BaseModel):
    """Base of all sections: immutable, no unknown keys, no conversion of types, no inf or nan."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TransformersModel(Section):
    """A model that answers on this machine (see `persodpo.models` for the ways to name one)."""

    backend: Literal["transformers"]
    model: Text
    revision: Text | None
    persona: bool
    temperature: NonNegativeFloat
    top_p: Annotated[float, Field(gt=0, le=1)]
    seed: Seed


class OpenAIModel(Section):
    """A model behind a server that speaks OpenAI's chat API (see docs/generation.md).

    A setting that is null is left to the server.
    """

    backend: Literal["openai"]
    model: Text
    base_url: Text
    api_key_env: str | None
    persona: bool
    temperature: NonNegativeFloat | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    seed: Seed | None
    sample_index: NonNegativeInt
    response_format: Literal["text", "json_object"]
    concurrency: PositiveInt
    requests_per_minute: PositiveInt | None
    tokens_per_minute: PositiveInt | None
    timeout_seconds: PositiveFloat
    attempts: PositiveInt

    # Neither message shows the value: somebody may have put a key there.
    @field_validator("api_key_env")
    @classmethod
    def _name_of_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError(
                "this must be the name of an environment variable in capital letters, such as "
                "OPENAI_API_KEY, never the key itself"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        url = urlsplit(value)
        try:
            sound = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:  # its own message shows what stands at the port's place
            sound = False
        if not sound:
            raise ValueError("this must be an address such as http://localhost:8000/v1")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError(
                "this must be a plain address without a user, a password or a query; "
                "name the variable that holds the key in api_key_env"
            )
        return value.rstrip("/")


class LoggedModel(Section):
    """Responses that somebody already generated, in a CSV or JSON-lines file."""

    backend: Literal["logged"]
    file: Text
    text_column: Text
    id_column: Text | None
    seconds_column: Text | None


class ReferenceModel(Section):
    """The data set's own answers, put into the JSON contract."""

    backend: Literal["reference"]


ModelParams = Annotated[
    TransformersModel | OpenAIModel | LoggedModel | ReferenceModel,
    Field(discriminator="backend"),
]
