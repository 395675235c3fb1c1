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
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import openai
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from persodpo import processes
from persodpo.errors import UserError
from persodpo.generation.cost import estimate_tokens
from persodpo.generation.faults import CallError, as_call_error, redact
from persodpo.generation.limits import RateLimits
from persodpo.generation.request import Request, chat
from persodpo.generation.tally import Tally
from persodpo.model_params import OpenAIModel
from persodpo.params import GenerateParams
from persodpo.records import Answer, FinishReason, Prompt

# So many requests in a row that stay without an answer end the run: the server or a setting is
# at fault, and the other requests would fare no better.
GIVE_UP_AFTER = 10
# A key is cut out of whatever a server says; a shorter one might stand in any answer.
SHORTEST_KEY = 8
# OpenAI's own address; its models want another name for the limit on tokens.
OPENAI_URL = "https://api.openai.com/v1"

_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
}


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
                max_tokens=self.params.max_tokens,
                temperature=model.temperature,
                top_p=model.top_p,
                seed=model.seed,
                sample_index=model.sample_index,
                response_format=model.response_format,
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
        try:
            asyncio.run(self._answer_all(requests, tally))
        except ExceptionGroup as group:  # what the connections raised
            mistakes = group.subgroup(UserError)
            raise mistakes.exceptions[0] if mistakes else group from None
        if self.ended:
            raise UserError(
                f"models.{self.name}: {self.ended}; the {tally.made} answers received are kept."
            )
        if tally.failed:
            raise UserError(
                f"models.{self.name}: {tally.failed} of {len(requests)} requests stay without an "
                f"answer (attempts that failed: {_counts(tally)}); the {tally.made} answers "
                "received are kept, and a further run asks for the missing ones only."
            )

    async def _answer_all(self, requests: Sequence[Request], tally: Tally) -> None:
        model = self.model
        tokens = [estimate_tokens(request) + request.max_tokens for request in requests]
        limits = RateLimits(
            model.requests_per_minute,
            model.tokens_per_minute,
            max(tokens),
            f"models.{self.name}",
        )
        self.secret = read_key(self.name, model.api_key_env)
        waiting = zip(requests, tokens, strict=True)
        async with (
            openai.AsyncOpenAI(
                api_key=self.secret or "none",  # it insists on one
                base_url=model.base_url,
                timeout=model.timeout_seconds,
                max_retries=0,
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(min(model.concurrency, len(requests))):
                group.create_task(self._answer_some(client, limits, waiting, tally))

    async def _answer_some(
        self,
        client: openai.AsyncOpenAI,
        limits: RateLimits,
        waiting: Iterator[tuple[Request, int]],
        tally: Tally,
    ) -> None:
        """One connection's work: the next request that waits, until none does."""
        attempts = AsyncRetrying(
            retry=retry_if_exception(self._is_passing),
            wait=wait_random_exponential(multiplier=0.5, max=60),
            sleep=self._pause,
            stop=stop_after_attempt(self.model.attempts),
            reraise=True,
        )
        for request, tokens in waiting:
            try:
                answer: Answer = await attempts(
                    self._attempt, client, limits, request, tokens, tally
                )
            except RunEndedError:
                return
            except CallError as failure:
                self._give_up(request, failure, tally)
            else:
                self.failures_in_a_row = 0
                tally.keep(request, answer)
                self.ended = self.ended or tally.over_budget()
            if self.ended:
                self._stop.set()
                return

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
            await limits.wait(tokens)
            granted = loop.time() >= self.not_before  # unless the server has asked meanwhile
        if self.ended:
            raise RunEndedError

    async def _attempt(
        self,
        client: openai.AsyncOpenAI,
        limits: RateLimits,
        request: Request,
        tokens: int,
        tally: Tally,
    ) -> Answer:
        await self._wait_for_turn(limits, tokens)
        begin = time.perf_counter()
        try:
            # raw, because the client returns a body that isn't JSON as if it were an answer
            reply = await client.chat.completions.with_raw_response.create(**_body(request))
            answer = read_answer(decode(reply.text), time.perf_counter() - begin)
        except Exception as error:
            failure = as_call_error(error, self.secret)
            if failure is None:
                raise
            tally.fault(failure.kind)
            now = asyncio.get_running_loop().time()
            self.not_before = max(self.not_before, now + failure.retry_after)
            raise failure from None
        return _without(self.secret, answer)

    def _is_passing(self, error: BaseException) -> bool:
        return isinstance(error, CallError) and error.passing and not self.ended

    def _give_up(self, request: Request, failure: CallError, tally: Tally) -> None:
        """Note a request that stays without an answer, or that the server filtered."""
        if failure.kind == "content_filter":
            tally.note(request, Answer(raw="", finish_reason="content_filter"))
            return
        tally.fail(f"request {request.key[:12]}: {failure}")
        self.failures_in_a_row += 1
        if failure.hopeless:
            self.ended = str(failure)
        elif self.failures_in_a_row >= GIVE_UP_AFTER:
            self.ended = f"{GIVE_UP_AFTER} requests in a row failed, the last one because {failure}"


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


def _body(request: Request) -> dict[str, Any]:
    """The call's arguments; what is None is left to the server."""
    # OpenAI's newer models refuse the old name, other servers don't all know the new one
    limit = "max_completion_tokens" if request.base_url == OPENAI_URL else "max_tokens"
    body = {
        "model": request.model,
        "messages": [message.model_dump() for message in request.messages],
        limit: request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "seed": request.seed,
        "response_format": None
        if request.response_format == "text"
        else {"type": request.response_format},
    }
    return {name: value for name, value in body.items() if value is not None}


def decode(text: str) -> Any:
    """Decode a reply.

    Raises:
        CallError: It isn't JSON, or nested or long beyond reason.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CallError("malformed", "the server's reply isn't JSON", passing=True) from error


def read_answer(reply: Any, seconds: float) -> Answer:
    """Take an answer out of a server's reply.

    Args:
        reply: The decoded JSON.
        seconds: How long the call took.

    Raises:
        CallError: The reply has no choices, or isn't of the API's form.
    """
    try:
        choices = reply["choices"]
        if not choices:
            raise CallError("empty", "the server's reply has no choices", passing=True)
        choice, usage = choices[0], reply.get("usage") or {}
        if reply.get("error") or choice.get("error") or choice.get("finish_reason") == "error":
            raise CallError("server_error", "the server's reply holds an error", passing=True)
        message = choice["message"]
        refusal = message.get("refusal")
        reason = _REASONS.get(choice.get("finish_reason"), "other")
        return Answer(
            raw=_storable(refusal or message.get("content") or ""),
            finish_reason="refusal" if refusal else reason,
            seconds=seconds,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
            served_model=_storable(reply.get("model") or "") or None,
            system_fingerprint=_storable(reply.get("system_fingerprint") or "") or None,
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise CallError(
            "malformed", "the server's reply isn't of the chat API's form", passing=True
        ) from error


def _storable(text: str) -> str:
    """Half a surrogate pair can't be stored as UTF-8."""
    return text.encode("utf-8", "replace").decode()


def _counts(tally: Tally) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(tally.faults.items()))


def _without(secret: str | None, answer: Answer) -> Answer:
    """The answer without the account's key, should a server echo it."""
    texts = ("raw", "served_model", "system_fingerprint")
    found = {name: getattr(answer, name) for name in texts}
    return answer.model_copy(
        update={name: redact(text, secret) for name, text in found.items() if text}
    )
