"""Requests and tokens per minute, in simulated time."""

import asyncio
import contextlib

import pytest
from conftest import openai_model
from hypothesis import given, settings
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.generate.limits import RateLimits
from persodpo.generate.remote import OpenAICaller, RunEndedError


@given(st.integers(10, 100), st.lists(st.integers(50, 1000), min_size=5, max_size=60), st.data())
@settings(max_examples=25)
def test_no_minute_holds_more_than_the_limits(requests_per_minute, sizes, data):
    """In simulated time, with any sizes of requests and any number of connections."""
    limit = data.draw(st.integers(2 * max(sizes), 10 * max(sizes)))
    connections = data.draw(st.integers(1, 20))
    loop = SimulatedLoop()
    sent = []

    async def connection(limits, waiting):
        for tokens in waiting:
            await limits.wait(tokens)
            sent.append((loop.time(), tokens))

    async def run():
        limits = RateLimits(requests_per_minute, limit, max(sizes), "models.m")
        waiting = iter(sizes)
        await asyncio.gather(*(connection(limits, waiting) for _ in range(connections)))

    loop.run_until_complete(run())
    loop.close()
    assert len(sent) == len(sizes)
    for start, _ in sent:
        window = [tokens for time, tokens in sent if start <= time < start + 60]
        assert len(window) <= requests_per_minute
        assert sum(window) <= limit


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    now = 0.0

    def time(self):
        return self.now

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now = max(self.now, self._scheduled[0]._when) + 1e-6  # or rounding stops it
        super()._run_once()


def test_an_end_of_the_run_is_not_waited_out(generate):
    """Fifteen connections at three requests a minute, when the first one ends the run."""
    loop = SimulatedLoop()
    caller = OpenAICaller("m", openai_model(), generate)

    async def connection(limits):
        with contextlib.suppress(RunEndedError):
            await caller._wait_for_turn(limits, 1)
            await asyncio.sleep(1)  # the server's reply; meanwhile the others wait for their turn
            caller._end("a wrong key")
            caller._stop.set()

    async def run():
        limits = RateLimits(3, None, 1, "models.m")
        await asyncio.gather(*(connection(limits) for _ in range(15)))

    loop.run_until_complete(run())
    assert loop.time() < 20
    loop.close()


def test_a_limit_below_two_requests_is_refused():
    with pytest.raises(UserError, match=r"models\.m\.tokens_per_minute is 1000, less than twice"):
        RateLimits(None, 1000, 501, "models.m")
