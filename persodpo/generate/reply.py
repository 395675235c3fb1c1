"""Taking an answer out of a server's reply.

The text is what was paid for. Servers differ in all that stands beside it: counts as texts, a
fingerprint that is a number, contents in parts, thoughts in fields of their own, errors in the
place of an answer. Nothing of that may cost the text.
"""

import json
from collections.abc import Mapping
from typing import Any

from persodpo.generate.faults import CallError, from_reply
from persodpo.records import Answer, FinishReason

# What servers say of an answer that ended by itself, was cut, or was filtered, in lower case.
_REASONS: dict[str, FinishReason] = {
    **dict.fromkeys(["stop", "eos", "eos_token", "end_turn", "stop_sequence"], "stop"),
    **dict.fromkeys(["length", "max_tokens", "max_output_tokens", "model_length"], "length"),
    **dict.fromkeys(
        ["content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii"],
        "content_filter",
    ),
}
# What they say of an answer that they broke off themselves.
_BROKEN_OFF = ("error", "abort", "aborted", "cancelled", "insufficient_system_resource")
# The fields in which servers hand over a model's thoughts.
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


def decode(text: str) -> Any:
    """Decode a reply.

    Raises:
        CallError: It isn't JSON, or nested or long beyond reason.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CallError(
            "malformed", "the server's reply isn't JSON", transient=True, at_address=True
        ) from error


def read_answer(reply: Any, seconds: float, max_tokens: int, secret: str | None) -> Answer:
    """Take an answer out of a server's reply.

    Args:
        reply: The decoded JSON.
        seconds: How long the call took.
        max_tokens: The most tokens that were asked for; an answer of so many counts as cut,
            whatever the server calls it.
        secret: The account's key, which no message may hold.

    Raises:
        CallError: The reply holds an error or no choices, isn't of the API's form, or nothing was
            said although nothing stopped the model.
    """
    try:
        return _read(_mapping(reply), seconds, max_tokens, secret)
    except RecursionError as error:
        raise CallError("malformed", "the server's reply is nested too deeply") from error


def _read(fields: Mapping[str, Any], seconds: float, max_tokens: int, secret: str | None) -> Answer:
    choices = fields.get("choices")
    choice = _mapping(choices[0] if isinstance(choices, list) and choices else None)
    message = choice.get("message")
    text, thoughts = _content(_mapping(message))
    # some servers fill the field error of every reply
    error = fields.get("error") or choice.get("error")
    error = error or (fields.get("object") == "error" and fields)
    if error and not text:
        raise from_reply(error, secret)
    if not choices and "choices" in fields:
        raise CallError("empty", "the server's reply has no choices", transient=True)
    reason = str(choice.get("finish_reason")).lower()
    if reason in _BROKEN_OFF:
        raise CallError(
            "server_error", f"the server has broken the answer off ({reason})", transient=True
        )
    if message is None and _REASONS.get(reason) == "content_filter":
        raise CallError("content_filter", f"the server blocks the answer ({reason})")
    if not isinstance(message, Mapping):
        raise CallError(
            "malformed",
            "the server's reply isn't of the chat API's form",
            transient=True,
            at_address=True,
        )
    usage = _mapping(fields.get("usage"))
    tokens, prompt_tokens = _completion_tokens(usage), _count(usage.get("prompt_tokens"))
    refusal = _text(message.get("refusal"))
    finish_reason = cut_or(_REASONS.get(reason, "other"), tokens, max_tokens)
    if refusal:
        text, finish_reason = refusal, "refusal"
    if not text and not thoughts and not tokens and finish_reason in ("stop", "other"):
        raise CallError("empty", "the server's reply is empty", transient=True)
    return Answer(
        raw=text,
        thoughts=thoughts,
        finish_reason=finish_reason,
        seconds=seconds,
        prompt_tokens=prompt_tokens,
        completion_tokens=tokens,
        reasoning_tokens=_count(
            _mapping(usage.get("completion_tokens_details")).get("reasoning_tokens")
        ),
        served_model=_name(fields.get("model")),
        system_fingerprint=_name(fields.get("system_fingerprint")),
    )


def _completion_tokens(usage: Mapping[str, Any]) -> int | None:
    """The tokens of an answer with its thoughts, which some servers count in the total alone."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    prompt, completion, total = (_count(usage.get(name)) for name in names)
    if prompt is None or total is None:
        return completion
    return max(completion or 0, total - prompt)


def cut_or(reason: FinishReason, tokens: int | None, max_tokens: int) -> FinishReason:
    """The reason why an answer ended; of as many tokens as were allowed, that it was cut."""
    is_full = tokens is not None and tokens >= max_tokens
    return "length" if is_full and reason in ("stop", "other") else reason


def _content(message: Mapping[str, Any]) -> tuple[str, str | None]:
    """A message's text and its thoughts, each of which may come in parts."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [content]
    thoughts = [_text(message.get(name)) for name in _THOUGHTS]
    thoughts = [*filter(None, thoughts)][:1]  # some servers say the same in two fields
    texts: list[str] = []
    for part in parts:
        kind = str(_mapping(part).get("type", "text"))
        is_thought = "think" in kind or "reason" in kind
        (thoughts if is_thought else texts).append(_text(part))
    return "".join(texts), "".join(thoughts) or None


def _text(value: Any) -> str:
    """The text of a field: a text, a part with one, or a list of parts."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair can't be stored
    if isinstance(value, list):
        return "".join(map(_text, value))
    fields = _mapping(value)
    names = [name for name in ("text", "content", "value", *_THOUGHTS) if name in fields]
    return _text(fields[names[0]]) if names else ""


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    """A number of tokens, which some servers write as a float or a text; None if it is none."""
    try:
        number = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number >= 0 and not isinstance(value, bool) else None


def _name(value: Any) -> str | None:
    """A name, which some servers give as a number; None without one."""
    if isinstance(value, str):
        return _text(value) or None
    return str(value) if isinstance(value, int | float) else None
