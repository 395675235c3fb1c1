"""The backend `openai`: a model behind any server that speaks OpenAI's chat API.

OpenAI, vLLM, Ollama, llama.cpp and `transformers serve` work alike, by the official
client. Every attempt, also a repeated one, waits for the rate limits; an attempt
that may succeed later is repeated after an exponentially growing, random time, and
where the server asks to wait (Retry-After), all connections do. The client's own
retries are off, because they would pass by the limits.
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import openai
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from persodpo import processes
from persodpo.config.generate import GenerateParams
from persodpo.config.models import OpenAIModel
from persodpo.errors import UserError
from persodpo.generate.batch_jobs import open_jobs
from persodpo.generate.call import (
    LIMIT_NAMES,
    call_arguments,
    limit_name_of,
    read_key,
    without_secret,
)
from persodpo.generate.cost import estimate_tokens
from persodpo.generate.faults import CallError, as_call_error
from persodpo.generate.limits import RateLimits
from persodpo.generate.reply import decode, read_answer
from persodpo.generate.request import Request, chat
from persodpo.generate.served import ServedModel
from persodpo.generate.tally import Tally
from persodpo.records import Answer, FinishReason, Prompt

# So many requests in a row that stay without an answer end the run: the server or a setting is
# at fault, and the other requests would fare no better.
MAX_FAILURES_IN_A_ROW = 10
_UNKNOWN_NAME = re.compile(
    r"use '?max_completion_tokens|extra_forbidden|extra inputs"
    r"|(unsupported|unknown|unrecogni[sz]ed|unexpected|extra|invalid)[ _]"
    r"(parameter|field|argument|input|keyword|property|key|name)"
    r"|max_tokens'?\"? (is )?(unsupported|not supported with|not allowed)",
    re.IGNORECASE,
)


class RunEndedError(Exception):
    """A connection's turn has come, but the run has ended."""


class OpenAICaller:
    """Asks one model behind a server.

    Args:
        name: The model's key in `params.yaml`.
        model: Its section there.
        params: The settings that all models share.
    """

    def __init__(self, name: str, model: OpenAIModel, params: GenerateParams) -> None:
        self.name = name
        self.model = model
        self.params = params
        self.secret: str | None = None
        self.limit_name = limit_name_of(model.base_url)
        """How this server calls the limit on tokens, as far as it has said."""
        self.served = ServedModel(name, model)
        self.failures_in_a_row = 0
        self.not_before = 0.0
        """No attempt is made before this time of the event loop, because the server asked so."""
        self._stop = asyncio.Event()
        self.ended: str | None = None
        """Why no further request is made; those on their way are still waited for."""

    def requests(self, prompts: Sequence[Prompt], max_words: int) -> list[Request]:
        """One request per prompt."""
        model = self.model
        return [
            Request(
                provider="openai",
                base_url=model.base_url,
                model=model.model,
                messages=chat(prompt, model.persona, max_words),
                max_tokens=model.max_tokens or self.params.max_tokens,
                temperature=model.temperature,
                top_p=model.top_p,
                seed=model.seed,
                response_format=model.response_format,
                extra_body=model.extra_body,
            )
            for prompt in prompts
        ]

    def answer(self, requests: Sequence[Request], tally: Tally) -> None:
        """Ask the server, in one process; each answer is kept before its connection asks again.

        Raises:
            UserError: The key is missing or refused, the budget is used up, or a request
                stays without an answer. All answers received are kept.
        """
        if not processes.is_main():
            return
        self.served.refuse_mixed(tally.known.values())
        try:
            asyncio.run(self._answer_all(requests, tally))
        except ExceptionGroup as group:  # what the connections raised
            mistakes = group.subgroup(UserError)
            raise mistakes.exceptions[0] if mistakes else group from None
        if self.ended:
            raise UserError(
                f"models.{self.name}: {self.ended}; the {tally.made} answers received are kept."
            )
        if tally.refused == len(requests) and not tally.known:
            raise UserError(
                f"models.{self.name}: the server refuses all {tally.refused} prompts, so a setting "
                "must be at fault; the reasons are above."
            )
        if tally.failed:
            raise UserError(
                f"models.{self.name}: {tally.failed} of {len(requests)} requests stay without an "
                f"answer (attempts that failed: {_counts(tally)}); the {tally.made} answers "
                "received are kept, and a further run asks for the missing ones only."
            )

    async def _answer_all(self, requests: Sequence[Request], tally: Tally) -> None:
        self._refuse_handed_in(requests)
        model = self.model
        tokens = [estimate_tokens(request) + request.max_tokens for request in requests]
        limits = RateLimits(
            model.requests_per_minute,
            model.tokens_per_minute,
            max(tokens),
            f"models.{self.name}",
        )
        pending = zip(requests, tokens, strict=True)
        async with self._client() as client, asyncio.TaskGroup() as group:
            for _ in range(min(model.concurrency, len(requests))):
                group.create_task(self._run_connection(client, limits, pending, tally))

    def _refuse_handed_in(self, requests: Sequence[Request]) -> None:
        """Refuse to pay for what a batch job that is on its way answers."""
        wanted = {request.key_without_limit for request in requests}
        for job in open_jobs(self.model):
            asked = {request.key_without_limit for request in job.requests}
            if job.input_file_id is not None and wanted & asked:
                raise UserError(
                    f"models.{self.name}: {len(wanted & asked)} of its requests are in a batch job "
                    f"that is on its way; set models.{self.name}.mode to batch, and its answers "
                    f"are fetched, or cancel it at the server and remove {job.path}."
                )

    def _client(self) -> openai.AsyncOpenAI:
        """The official client, with the account's key.

        Raises:
            UserError: The key is missing, or stands where it would be kept.
        """
        model = self.model
        self.secret = read_key(self.name, model.api_key_env)
        if self.secret and self.secret in json.dumps(model.extra_body):
            raise UserError(
                f"params.yaml: models.{self.name}.extra_body holds the key that stands in "
                f"{model.api_key_env}; take it out, because answers are kept with their request."
            )
        return openai.AsyncOpenAI(
            api_key=self.secret or "none",  # it insists on one
            base_url=model.base_url,
            timeout=model.timeout_seconds,
            max_retries=0,
        )

    async def _run_connection(
        self,
        client: openai.AsyncOpenAI,
        limits: RateLimits,
        pending: Iterator[tuple[Request, int]],
        tally: Tally,
    ) -> None:
        """One connection's work: the next request that waits, until none does."""
        attempts = self._attempts()
        for request, tokens in pending:
            try:
                answer: Answer = await attempts(
                    self._attempt, client, limits, request, tokens, tally
                )
            except RunEndedError:
                return
            except CallError as failure:
                self._record_failure(request, failure, tally)
            else:
                self.failures_in_a_row = 0
                tally.store(request, answer)
                self._end(self.served.add(answer) or tally.over_budget())
            if self.ended:
                self._stop.set()
                return

    def _attempts(self) -> AsyncRetrying:
        """Repeats what failed and may succeed later."""
        return AsyncRetrying(
            retry=retry_if_exception(self._is_transient),
            wait=wait_random_exponential(multiplier=0.5, max=60),
            sleep=self._pause,
            stop=stop_after_attempt(self.model.attempts),
            reraise=True,
        )

    async def _pause(self, seconds: float) -> None:
        """Sleep, but not longer than the run lasts."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), seconds)

    async def _wait_for_turn(self, limits: RateLimits, tokens: int) -> None:
        """Wait for the rate limits, and as long as the server has asked any connection to."""
        loop = asyncio.get_running_loop()
        granted = False
        while not self.ended and not granted:
            await self._pause(self.not_before - loop.time())
            await self._unless_ended(limits.wait(tokens))
            granted = loop.time() >= self.not_before  # unless the server has asked meanwhile
        if self.ended:
            raise RunEndedError

    async def _unless_ended(self, waiting: Coroutine[Any, Any, None]) -> None:
        """Wait for something, but not longer than the run lasts."""
        turn, stop = (asyncio.ensure_future(each) for each in (waiting, self._stop.wait()))
        await asyncio.wait((turn, stop), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if turn.done():
            turn.result()
        else:
            turn.cancel()

    async def _attempt(
        self,
        client: openai.AsyncOpenAI,
        limits: RateLimits,
        request: Request,
        tokens: int,
        tally: Tally,
    ) -> Answer:
        await self._wait_for_turn(limits, tokens)
        name, begin = self.limit_name, time.perf_counter()
        try:
            # raw, because the client returns a body that isn't JSON as if it were an answer
            reply = await client.chat.completions.with_raw_response.create(
                **call_arguments(request, name)
            )
            seconds = time.perf_counter() - begin
            answer = read_answer(decode(reply.text), seconds, request.max_tokens, self.secret)
        except Exception as error:
            failure = as_call_error(error, self.secret)
            if failure is None:
                raise
            if self._is_renamed(failure, name):
                return await self._attempt(client, limits, request, tokens, tally)
            self._note_fault(failure, tally)
            raise failure from None
        return without_secret(self.secret, answer)

    def _note_fault(self, failure: CallError, tally: Tally) -> None:
        """Count it, and wait as long as the server asks to."""
        tally.fault(failure.kind)
        now = asyncio.get_running_loop().time()
        self.not_before = max(self.not_before, now + failure.retry_after)

    def _is_renamed(self, failure: CallError, name: str) -> bool:
        """Whether a server refuses the limit on tokens by one name, and another is left to try."""
        if failure.kind != "refused" or failure.fatal:
            return False
        is_unknown = name in str(failure) and _UNKNOWN_NAME.search(str(failure))
        if is_unknown and self.limit_name == name == LIMIT_NAMES[0]:
            self.limit_name = LIMIT_NAMES[1]
        return self.limit_name != name  # this or another connection has found out

    def _is_transient(self, error: BaseException) -> bool:
        return isinstance(error, CallError) and error.transient and not self.ended

    def _record_failure(self, request: Request, failure: CallError, tally: Tally) -> None:
        """Note a request that stays without an answer, or that the server refuses for good."""
        reason = self._with_hint(failure)
        if failure.fatal:
            tally.fail(request, reason)
            self._end(reason)
        # a server that says nothing to a prompt, however often, won't take it
        elif failure.kind in ("refused", "content_filter", "empty"):
            kind: FinishReason = "refused"
            if failure.kind == "content_filter":
                kind = "content_filter"
            tally.refuse(request, Answer(raw="", finish_reason=kind, error=reason))
            if tally.refused > self.params.max_refused:
                self._end(
                    f"{tally.refused} prompts were refused, more than generate.max_refused = "
                    f"{self.params.max_refused}, the last one because {reason}"
                )
        else:
            tally.fail(request, reason)
            self.failures_in_a_row += 1
            if self.failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
                self._end(
                    f"{MAX_FAILURES_IN_A_ROW} requests in a row failed, the last one because "
                    f"{reason}"
                )

    def _end(self, reason: str | None) -> None:
        """End the run for a reason, if there is one; the first one is told."""
        self.ended = self.ended or reason

    def _with_hint(self, failure: CallError) -> str:
        """The reason, and what the address may lack."""
        if not failure.at_address or re.search(r"/v\d", self.model.base_url):
            return str(failure)
        return (
            f"{failure}; the address {self.model.base_url} has no /v1 at its end, which most "
            f"servers want: set models.{self.name}.base_url"
        )


def _counts(tally: Tally) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(tally.faults.items()))
