"""What is asked of a model, whole: everything that can change its answer, and nothing else.

A request's key is the SHA-256 of its fields. Two requests that differ in any of
them have different keys, so the cache can't serve one the other's answer; keys
of accounts, concurrency, batch sizes, time-outs and names in params.yaml are not
among them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self

from persodpo.prompts import CONTRACT_VERSION, render_prompt
from persodpo.records import Prompt, Row


class Message(Row):
    """One message of a chat."""

    role: Literal["user"]
    content: str


class Request(Row):
    """One call of one model.

    Attributes:
        provider: The backend.
        base_url: The server's address; None for a model on this machine.
        model: The name that the server knows, or a Hugging Face id; None for weights
            that are told by their hash.
        revision: The commit of a Hugging Face id.
        weights: SHA-256 of the files of a packaged or local model (see
            `persodpo.models.weights_hash`).
        adapter: The same of a trained adapter on top.
        dtype: The number format a local model computes in.
        messages: The chat.
        max_tokens: The answer is cut after so many.
        temperature, top_p, seed: The decoding; None leaves it to the server.
        sample_index: Which of several answers to the same request this is.
        response_format: What the server is asked to write.
        contract_version: See `persodpo.prompts.CONTRACT_VERSION`.
    """

    provider: Literal["transformers", "openai"]
    base_url: str | None = None
    model: str | None = None
    revision: str | None = None
    weights: str | None = None
    adapter: str | None = None
    dtype: str | None = None
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None
    top_p: float | None
    seed: int | None
    sample_index: int = 0
    response_format: Literal["text", "json_object"] = "text"
    contract_version: int = CONTRACT_VERSION

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits."""
        return _sha256(self.model_dump())

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A changed request, checked anew; pydantic's own copy would keep the old key."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | dict(update or {})))

    @cached_property
    def random_seed(self) -> int:
        """Seed of this request's own random numbers, in [0, 2**64).

        It depends on the messages, the model's seed and the sample index, not on the
        weights, so that a base model and its fine-tuned versions draw alike.
        """
        drawn = self.model_dump(include={"messages", "seed", "sample_index"})
        return int(_sha256(drawn)[:16], 16)


def chat(prompt: Prompt, persona: bool, max_words: int) -> tuple[Message, ...]:
    """The chat that asks for an answer to a prompt, with or without the persona."""
    text = prompt.text if persona else render_prompt([], prompt.turns, max_words)
    return (Message(role="user", content=text),)


def unique(requests: Sequence[Request]) -> list[Request]:
    """The requests without repetitions, in the order of their first occurrence."""
    return list({request.key: request for request in requests}.values())


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
