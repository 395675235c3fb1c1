"""Requests and tokens per minute, kept in every window of a minute.

A bucket that lets `burst` through at once and leaks (limit - burst) a minute
passes at most the limit in any 60 seconds. For requests the burst is 1, so they
are spaced evenly; for tokens it is the largest request.
"""

import asyncio

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
        # an attempt that has waited for tokens may be sent right before the next one
        self._requests = _bucket(
            requests_per_minute, 1, spare=0 if tokens_per_minute is None else 1
        )
        self._tokens = _bucket(tokens_per_minute, largest)
        # one at a time, so that what was granted is sent at once and in the order of asking
        self._turn = asyncio.Lock()

    async def wait(self, tokens: int) -> None:
        """Wait until one more attempt, of so many tokens, is allowed."""
        async with self._turn:
            if self._requests:
                await self._requests.acquire()
            if self._tokens:
                await self._tokens.acquire(tokens)


def _bucket(limit: int | None, burst: int, spare: int = 0) -> AsyncLimiter | None:
    if limit is None:
        return None
    return AsyncLimiter(burst, 60 * burst / max(limit - burst - spare, 1))
