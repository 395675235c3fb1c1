"""One call of OpenAI's chat API: its fields, and the account's key, which no file may hold."""

import os
from typing import Any
from urllib.parse import urlsplit

from persodpo.errors import UserError
from persodpo.generate.faults import redact
from persodpo.generate.request import Request
from persodpo.records import Answer

# A key is cut out of whatever a server says; a shorter one might stand in any answer.
SHORTEST_KEY = 8
# The limit on tokens has two names. The first is known to nearly every server, but refused by
# OpenAI's newer models, which say so. Others pass over the second, and would write without end.
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")


def limit_name_of(base_url: str) -> str:
    """How a server calls the limit on tokens, until it says that it calls it otherwise."""
    is_openai = urlsplit(base_url).hostname == "api.openai.com"
    return LIMIT_NAMES[1] if is_openai else LIMIT_NAMES[0]


def read_key(name: str, variable: str | None) -> str | None:
    """The key for a server, from the environment; None for a server without keys.

    Raises:
        UserError: The variable isn't set, or holds what can't stand in a header.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"params.yaml: models.{name}.api_key_env is {variable}, and no such environment "
            f"variable is set; export {variable}=<your key>."
        )
    if len(key) < SHORTEST_KEY:
        raise UserError(
            f"the environment variable {variable} holds fewer than {SHORTEST_KEY} characters, too "
            f"few for a key; set models.{name}.api_key_env to null for a server that needs none."
        )
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"the environment variable {variable} holds characters no key has.")
    return key


def call_arguments(request: Request, limit_name: str) -> dict[str, Any]:
    """The call's arguments; what is None is left to the server."""
    body = {
        "model": request.model,
        "messages": request.chat(),
        limit_name: request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "response_format": None
        if request.response_format == "text"
        else {"type": request.response_format},
        "extra_body": request.extra_body,
    }
    return {name: value for name, value in body.items() if value is not None}


def without_secret(secret: str | None, answer: Answer) -> Answer:
    """The answer without the account's key, should a server echo it."""
    fields = ("raw", "thoughts", "served_model", "system_fingerprint")
    texts = {name: getattr(answer, name) for name in fields}
    return answer.model_copy(
        update={name: redact(text, secret) for name, text in texts.items() if text}
    )
