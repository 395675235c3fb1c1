"""Requests and tokens per minute, kept in every window of a minute.

A bucket that lets `burst` through at once and leaks (limit - burst) a minute
passes at most the limit in any 60 seconds. For requests the burst is 1, so they
are spaced evenly; for tokens it is the largest request.
"""

from aiolimiter import AsyncLimiter

from persodpo.errors import UserError


class RateLimits:
    """What a server allows.

    Args:
        requests_per_minute: At most so many attempts, or None for any number.
        tokens_per_minute: At most so many tokens of prompts and (at most) answers.
        largest: Tokens of the largest request.
        key: The model's section in `params.yaml`, for messages.

    Raises:
        UserError: tokens_per_minute is less than twice the largest request.
    """

    def __init__(
        self,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        largest: int,
        key: str,
    ) -> None:
        if tokens_per_minute is not None and tokens_per_minute < 2 * largest:
            raise UserError(
                f"params.yaml: {key}.tokens_per_minute is {tokens_per_minute}, less than twice "
                f"what the largest request takes, {largest} tokens; raise it, or set null."
            )
        self._requests = _bucket(requests_per_minute, 1)
        self._tokens = _bucket(tokens_per_minute, largest)

    async def wait(self, tokens: int) -> None:
        """Wait until one more attempt, of so many tokens, is allowed."""
        if self._tokens:
            await self._tokens.acquire(tokens)
        if self._requests:
            await self._requests.acquire()


def _bucket(limit: int | None, burst: int) -> AsyncLimiter | None:
    if limit is None:
        return None
    return AsyncLimiter(burst, 60 * burst / max(limit - burst, 1))
