"""What can go wrong with a call, and whether trying again may help."""

import contextlib
import email.utils
import math
import time
from collections.abc import Mapping

import openai

# A server that asks to wait longer than this, in seconds, is not waited for.
LONGEST_WAIT = 600.0


class CallError(Exception):
    """An attempt that brought no answer.

    Attributes:
        kind: `rate_limit`, `server_error`, `connection`, `timeout`, `malformed`, `empty`
            (no choices), `content_filter` or `refused` (the server won't take this request).
        passing: Whether the same attempt may succeed later.
        hopeless: Whether no other request will fare better: the key, the address, the
            model's name or the account is at fault.
        retry_after: Seconds that the server asks to wait.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        passing: bool = False,
        hopeless: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.passing = passing
        self.hopeless = hopeless
        self.retry_after = retry_after


def as_call_error(error: Exception, secret: str | None) -> CallError | None:
    """Translate what the client raises.

    Args:
        error: The exception.
        secret: The account's key, which no message may hold, whatever a server echoes.

    Returns:
        The failure, or None if the exception is a defect of the program.
    """
    match error:
        case CallError():
            return error
        case openai.APITimeoutError():
            return CallError("timeout", "the server didn't answer in time", passing=True)
        case openai.APIConnectionError():
            cause = redact(str(error.__cause__ or error), secret)
            return CallError("connection", f"no connection ({cause})", passing=True)
        case openai.APIStatusError():
            return _from_status(error, secret)
        case openai.APIError():
            return CallError("malformed", "the server's reply isn't JSON", passing=True)
        case _:
            return None


def _from_status(error: openai.APIStatusError, secret: str | None) -> CallError:
    text = " ".join(redact(error.message, secret).split())
    message = f"the server says {error.status_code} ({text[:300]})"
    retry_after = read_retry_after(error.response.headers)
    if retry_after > LONGEST_WAIT:
        return CallError(
            "rate_limit", f"{message}, and asks to wait {retry_after:.0f} s", hopeless=True
        )
    match error.status_code:
        case 400 if error.code == "content_filter":
            return CallError("content_filter", message)
        case 429 if error.code == "insufficient_quota":
            return CallError("rate_limit", message, hopeless=True)
        case 429:
            return CallError("rate_limit", message, passing=True, retry_after=retry_after)
        case 408:
            return CallError("timeout", message, passing=True, retry_after=retry_after)
        case 409 | 425:
            return CallError("server_error", message, passing=True, retry_after=retry_after)
        case status if status >= 500:
            return CallError("server_error", message, passing=True, retry_after=retry_after)
        case 401 | 402 | 403 | 404 | 405:
            return CallError("refused", message, hopeless=True)
        case _:
            return CallError("refused", message)


def redact(text: str, secret: str | None) -> str:
    """A text without the secret."""
    return text.replace(secret, "***") if secret else text


def read_retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait by the header Retry-After, a number or a date (RFC 9110); 0 without one."""
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        seconds = float(value)
        return 0.0 if math.isnan(seconds) else max(seconds, 0.0)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0
