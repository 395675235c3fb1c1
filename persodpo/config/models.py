"""The sections below `models` in `params.yaml`, one per backend.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/generation.md.
"""

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    Field,
    JsonValue,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from persodpo.config.sections import Key, Section, Seed, Text, dotted_key

# What a call says of itself already, or what would make its reply another kind of reply.
_CALL_NAMES = {
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed",
    "response_format", "n", "stream", "stream_options", "tools", "tool_choice", "functions",
    "max_new_tokens", "prompt",
}  # fmt: skip
_TEMPLATE_NAMES = {
    "messages", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize",
    "continue_final_message", "return_dict", "return_tensors", "strftime_now",
    "sanitize_control_tokens", "padding", "truncation", "max_length", "tokenizer_kwargs",
    "return_assistant_tokens_mask", "conversation",
}  # fmt: skip
# The last word of a name under which a key is handed over, and values that look like one.
_SECRET_WORDS = {
    "key", "apikey", "token", "auth", "authorization", "authorisation", "bearer", "cookie",
    "password", "passwd", "secret", "credential", "credentials",
}  # fmt: skip
_NO_SECRETS = {"prompt_cache_key"}
_SECRET_VALUE = re.compile(
    r"\b(sk|gsk|xai)-[A-Za-z0-9_-]{12,}|\b(hf|ghp|gho)_[A-Za-z0-9]{12,}|\bAIza[A-Za-z0-9_-]{20,}"
    r"|\bAKIA[A-Z0-9]{12,}|\beyJ[A-Za-z0-9_-]{10,}\.|^(Bearer|Basic)\s"
)


def _check_samples(samples: int, temperature: float | None) -> None:
    if samples > 1 and temperature == 0:
        raise ValueError(
            f"samples is {samples}, and at temperature 0 all answers to a prompt are the "
            "same; set samples to 1, or raise the temperature"
        )


class SampledModel(Section):
    """A model that is called, and can give several answers to a prompt."""

    backend: str
    model: Text
    persona: bool
    temperature: NonNegativeFloat | None
    samples: PositiveInt

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_samples(self.samples, self.temperature)
        return self


class TransformersModel(SampledModel):
    """A model that answers on this machine (named as `persodpo.models.locations` says)."""

    backend: Literal["transformers"]
    revision: Text | None
    temperature: NonNegativeFloat
    top_p: Annotated[float, Field(gt=0, le=1)]
    seed: Seed
    max_tokens: PositiveInt | None
    chat_template_kwargs: dict[str, JsonValue] | None

    @field_validator("chat_template_kwargs")
    @classmethod
    def _check_kwargs(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        for name in value or ():
            if name in _TEMPLATE_NAMES:
                raise ValueError(f"{name} is given to the template anyway; take it out")
        return value


class OpenAIModel(SampledModel):
    """A model behind a server that speaks OpenAI's chat API (see docs/generation.md).

    A setting that is null is left to the server.
    """

    backend: Literal["openai"]
    base_url: Text
    api_key_env: str | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    seed: Seed | None
    max_tokens: PositiveInt | None
    response_format: Literal["text", "json_object"]
    extra_body: dict[str, JsonValue] | None
    served_model: Literal["same", "any"]
    mode: Literal["live", "batch"]
    concurrency: PositiveInt
    requests_per_minute: PositiveInt | None
    tokens_per_minute: PositiveInt | None
    timeout_seconds: PositiveFloat
    attempts: PositiveInt

    # Neither message shows the value: somebody may have put a key there.
    @field_validator("api_key_env")
    @classmethod
    def _check_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError(
                "this must be the name of an environment variable in capital letters, such as "
                "OPENAI_API_KEY, never the key itself"
            )
        return value

    @field_validator("extra_body")
    @classmethod
    def _check_extra_body(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        for name in value or ():
            if name.lower() in _CALL_NAMES:
                raise ValueError(
                    f"{name} has a setting of its own or can't be changed; take it out"
                )
        secret = _secret_name(value)
        if secret is not None:
            raise ValueError(
                f"{secret} looks like a secret, and this goes into caches and dvc.lock; name the "
                "variable that holds the key in api_key_env"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        url = urlsplit(value)
        try:
            is_address = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:  # its own message shows what stands at the port's place
            is_address = False
        if not is_address:
            raise ValueError("this must be an address such as http://localhost:8000/v1")
        if url.username or url.password or url.query or url.fragment:
            raise ValueError(
                "this must be a plain address without a user, a password or a query; "
                "name the variable that holds the key in api_key_env"
            )
        return value.rstrip("/")


def _secret_name(value: Any, path: tuple[str | int, ...] = ()) -> str | None:
    """Where in a value a secret stands, by a field's name or its look; None if nowhere."""
    fields = value.items() if isinstance(value, dict) else enumerate(value or ())
    for name, inner in fields:
        inner_path = (*path, name)
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", str(name)) or [""]
        # APIKey, api-key and API_KEY alike
        letters = re.sub("[^a-z]", "", str(name).lower())
        is_named = words[-1].lower() in _SECRET_WORDS or letters.endswith(("apikey", "apitoken"))
        is_named = is_named and name not in _NO_SECRETS
        if is_named or (isinstance(inner, str) and _SECRET_VALUE.search(inner)):
            return dotted_key(inner_path)
        if isinstance(inner, dict | list):
            secret = _secret_name(inner, inner_path)
            if secret is not None:
                return secret
    return None


class LoggedModel(Section):
    """Responses that somebody already generated, in a CSV or JSON-lines file.

    Attributes:
        file: Where they are.
        text_column: The column with the texts.
        wrapped: Whether these are the models' raw texts, with the format that was asked for, or
            answers that somebody has taken out of it.
        split: Which prompts the rows answer, one after the other, where there is no id_column.
        id_column: The column with the prompts' ids; None finds rows by their number.
        seconds_column: The column with the response times; None if there is none.
    """

    backend: Literal["logged"]
    file: Text
    text_column: Text
    wrapped: bool
    split: Literal["train", "valid"]
    id_column: Text | None
    seconds_column: Text | None


class GoldenModel(Section):
    """The data set's own answers, put into the JSON contract."""

    backend: Literal["golden"]


class PolicyModel(Section):
    """A trained method, which answers on this machine with the prompt that it was trained on."""

    backend: Literal["policy"]
    method: Key
    temperature: NonNegativeFloat
    top_p: Annotated[float, Field(gt=0, le=1)]
    seed: Seed
    samples: PositiveInt
    max_tokens: PositiveInt | None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_samples(self.samples, self.temperature)
        return self

    def on(self, trained: TransformersModel) -> TransformersModel:
        """The model that was trained, with this one's decoding."""
        return trained.model_copy(update=self.model_dump(exclude={"backend", "method"}))


ModelParams = Annotated[
    TransformersModel | OpenAIModel | LoggedModel | GoldenModel | PolicyModel,
    Field(discriminator="backend"),
]
