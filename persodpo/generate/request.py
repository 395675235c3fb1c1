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

from persodpo.prompts import ContractRule, render_prompt
from persodpo.records import Prompt, Row

# Raise it when a model on this machine may answer the same request otherwise than before, as when
# its answers end at another place. Servers don't know of it, so theirs stays 1, and what was paid
# is served for good.
LOCAL_VERSION = 2


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
            `persodpo.models.locations.weights_hash`).
        adapter: The same of a trained adapter on top.
        dtype: The number format a local model computes in.
        messages: The chat.
        rendered: The same as a local model reads it, the chat template around it; a server writes
            that itself.
        max_tokens: The answer is cut after so many.
        temperature, top_p, seed: The decoding; None leaves it to the server.
        sample_index: Which of several answers to the same request this is.
        response_format: What the server is asked to write.
        extra_body: Further fields of a server's call.
        stops_by: By which rule of the contract a local model's answer ends (see
            `persodpo.prompts`); a server isn't stopped.
        contract_version: `LOCAL_VERSION` for a model on this machine.
    """

    provider: Literal["transformers", "openai"]
    base_url: str | None = None
    model: str | None = None
    revision: str | None = None
    weights: str | None = None
    adapter: str | None = None
    dtype: str | None = None
    messages: tuple[Message, ...]
    rendered: str | None = None
    max_tokens: int
    temperature: float | None
    top_p: float | None
    seed: int | None
    sample_index: int = 0
    response_format: Literal["text", "json_object"] = "text"
    extra_body: dict[str, Any] | None = None
    stops_by: ContractRule | None = None
    contract_version: int = 1

    def chat(self) -> list[dict[str, str]]:
        """The messages as chat templates and servers take them."""
        return [message.model_dump() for message in self.messages]

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits."""
        fields = self.model_dump()
        # what came later counts where it is set, so that answers kept before keep their keys
        for name in ("rendered", "extra_body", "stops_by"):
            if not fields[name]:
                del fields[name]
        return _sha256(fields)

    @cached_property
    def key_without_limit(self) -> str:
        """The same for all requests that differ in the limit on tokens alone."""
        return self.model_copy(update={"max_tokens": 1}).key

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


def sample_request(request: Request, sample: int) -> Request:
    """The request for a further answer to the same prompt: another seed and sample index."""
    if sample == 0:
        return request
    seed = None if request.seed is None else request.seed + sample
    return request.model_copy(update={"sample_index": sample, "seed": seed})


def sample_requests(requests: Sequence[Request], samples: int) -> list[Request]:
    """Ask each request so many times; those of one request stand together."""
    return [sample_request(request, n) for request in requests for n in range(samples)]


def unique(requests: Sequence[Request]) -> list[Request]:
    """The requests without repetitions, in the order of their first occurrence."""
    return list({request.key: request for request in requests}.values())


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
