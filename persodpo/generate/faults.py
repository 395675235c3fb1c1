"""What can go wrong with a call, and whether trying again may help."""

import contextlib
import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openai

# A server that asks to wait longer than this, in seconds, is not waited for.
LONGEST_WAIT = 600.0


class CallError(Exception):
    """An attempt that brought no answer.

    Attributes:
        kind: `rate_limit`, `server_error`, `connection`, `timeout`, `malformed`, `empty`
            (nothing was said), `content_filter` or `refused` (the server won't take this request).
        transient: Whether the same attempt may succeed later.
        fatal: Whether no other request will fare better: the key, the address, the
            model's name or the account is at fault.
        retry_after: Seconds that the server asks to wait.
        at_address: Whether something else than the API may stand at this address.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        transient: bool = False,
        fatal: bool = False,
        retry_after: float = 0.0,
        at_address: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.transient = transient
        self.fatal = fatal
        self.retry_after = retry_after
        self.at_address = at_address


def as_call_error(error: Exception, secret: str | None) -> CallError | None:
    """Translate what the client raises.

    Args:
        error: The exception.
        secret: The account's key, which no message may hold, whatever a server echoes.

    Returns:
        The failure, or None if the exception is a defect of the program.
    """
    # imported late, because it takes a second, which no other backend need wait
    import openai  # noqa: PLC0415

    match error:
        case CallError():
            return error
        case openai.APITimeoutError():
            return CallError("timeout", "the server didn't answer in time", transient=True)
        case openai.APIConnectionError():
            cause = redact(str(error.__cause__ or error), secret)
            return CallError("connection", f"no connection ({cause})", transient=True)
        case openai.APIStatusError():
            retry_after = read_retry_after(error.response.headers)
            text = redact(_text(error), secret)
            code = f"{error.code or ''} {error.type or ''}".strip()
            return from_status(error.status_code, code, text, retry_after)
        case openai.APIError() | json.JSONDecodeError():
            return CallError("malformed", "the server's reply isn't JSON", transient=True)
        case _:
            return None


def _text(error: "openai.APIStatusError") -> str:
    """What the server says; the client shows only a reason that stands where OpenAI puts it."""
    body = error.body
    has_message = isinstance(body, Mapping) and body.get("message")
    return error.message if has_message or body is None else f"{error.message} - {body}"


def from_status(
    status: int, code: str, text: str, retry_after: float = 0.0, status_text: str = ""
) -> CallError:
    """Tell what a server's refusal means.

    Args:
        status: HTTP's, or one that stands in the reply itself.
        code: The error's code and type, where the server names them.
        text: The reason that the server gives.
        retry_after: Seconds that it asks to wait.
        status_text: What stands in the place of the status in the message.
    """
    text = " ".join(text.split())
    message = f"the server says {status_text or status} ({text[:300]})"
    if retry_after > LONGEST_WAIT:
        return CallError(
            "rate_limit", f"{message}, and asks to wait {retry_after:.0f} s", fatal=True
        )
    about = f"{code} {text}"
    if "content_filter" in code and status == 400:
        return CallError("content_filter", message)
    # whatever the status: some servers send 403 or 500 for a prompt that they won't take
    if _PROMPT_REFUSED.search(about) and status not in (401, 429):
        return CallError("refused", message)
    if _ACCOUNT_EMPTY.search(about):
        return CallError("rate_limit", message, fatal=True)
    match status:
        case 429:
            return CallError("rate_limit", message, transient=True, retry_after=retry_after)
        case 408:
            return CallError("timeout", message, transient=True, retry_after=retry_after)
        case 409 | 425:
            return CallError("server_error", message, transient=True, retry_after=retry_after)
        case _ if status >= 500:
            return CallError("server_error", message, transient=True, retry_after=retry_after)
        case 404 | 405:
            return CallError("refused", message, fatal=True, at_address=True)
        case 401 | 402 | 403:
            return CallError("refused", message, fatal=True)
        case 400 if _API_KEY_REFUSED.search(about):
            return CallError("refused", message, fatal=True)
        case _:
            return CallError("refused", message)


def from_reply(error: object, secret: str | None) -> CallError:
    """Tell what an error means that a server sends as a reply, with HTTP's status 200.

    Args:
        error: What stands in the reply's field `error`: an object, or a text.
        secret: See `as_call_error`.
    """
    fields = error if isinstance(error, Mapping) else {"message": error}
    code = f"{fields.get('code') or ''} {fields.get('type') or ''}".strip()
    text = redact(str(fields.get("message") or error), secret)
    stated = re.fullmatch(r"([45]\d\d)(\.0)?", str(fields.get("code")))
    if stated:
        status = int(stated[1])
    elif _KEY_REFUSED.search(f"{code} {text}"):
        status = 401
    else:
        status = 400 if _CALL_REFUSED.search(f"{code} {text}") else 500
    return from_status(status, code, text, status_text="200, with an error in its reply")


# What servers call what no further attempt mends: an account, a key, a prompt, a call.
_ACCOUNT_EMPTY = re.compile(
    r"insufficient[ _](quota|credit|balance|fund)|payment[ _]required|out of credit|arrearage"
    r"|credit balance",
    re.IGNORECASE,
)
_API_KEY_REFUSED = re.compile(
    r"(invalid|incorrect|missing|wrong|expired|no)[ _]api[ _-]?key"
    r"|api[ _-]?key[ _](is[ _])?(not[ _]valid|invalid|incorrect|missing|wrong|expired)",
    re.IGNORECASE,
)
_KEY_REFUSED = re.compile(
    _API_KEY_REFUSED.pattern + r"|(invalid|incorrect|missing|wrong)[ _](key|token)"
    r"|unauthori[sz]ed|authentication|permission[ _]denied",
    re.IGNORECASE,
)
_PROMPT_REFUSED = re.compile(
    r"data_?inspection|content[ _](filter|policy)|moderation|flagged"
    r"|context[ _](length|size|window)|maximum context"
    r"|(prompt|input|request) (is )?too (long|large)",
    re.IGNORECASE,
)
_CALL_REFUSED = re.compile(
    r"invalid[ _]request|unsupported|unknown (field|parameter)", re.IGNORECASE
)


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
