"""The backend `openai` in batch mode: requests handed in together and answered within a day.

By OpenAI's Batch API: requests are uploaded as a file, a job is made of it, and when the job has
ended its answers are fetched. OpenAI takes half the price for it. What a job leaves unanswered is
handed in again, in a job of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import openai
from openai.types import Batch
from tenacity import AsyncRetrying, retry_if_result, wait_exponential

from persodpo.errors import UserError
from persodpo.generate.batch_jobs import (
    ENDPOINT,
    MOST_REQUESTS,
    BatchJob,
    new_jobs,
    open_jobs,
    request_line,
)
from persodpo.generate.call import without_secret
from persodpo.generate.faults import CallError, as_call_error, from_status, redact
from persodpo.generate.remote import OpenAICaller
from persodpo.generate.reply import decode, read_answer
from persodpo.generate.request import Request
from persodpo.generate.tally import Tally
from persodpo.records import Answer

ENDED = ("completed", "failed", "expired", "cancelled")
# A job's state is looked up after so many seconds, then after twice as many, up to the most.
POLL_SECONDS, MOST_POLL_SECONDS = 1, 60

T = TypeVar("T")
Outcome = Answer | CallError


class OpenAIBatchCaller(OpenAICaller):
    """Asks one model behind a server in batch jobs; see `OpenAICaller`."""

    most_requests: int | None = None
    """Of a job, where the server has refused larger ones; jobs then go one after the other."""

    async def _answer_all(self, requests: Sequence[Request], tally: Tally) -> None:
        """Fetch what is on its way, hand in the rest, and again what stays unanswered."""
        left = {request.key: request for request in requests}
        failures: dict[str, CallError] = {}
        async with self._client() as client:
            try:
                earlier = await self._known_jobs(client, tally)
                attempts = 0
                while left and not self.ended and attempts < self.model.attempts:
                    learnt = self.limit_name, self.most_requests
                    failures = await self._round(client, left, earlier, tally)
                    left = {key: each for key, each in left.items() if key not in tally.answers}
                    # what earlier runs have handed in, or what only told what this server takes, is
                    # no attempt of this run
                    attempts += not earlier and learnt == (self.limit_name, self.most_requests)
                    earlier = []
            except CallError as failure:
                self._end(
                    f"{self._with_hint(failure)}; batch jobs that are on their way are fetched by "
                    "the next run"
                )
        for key, request in left.items():
            if key in failures:
                self._record_failure(request, failures[key], tally)

    async def _known_jobs(self, client: openai.AsyncOpenAI, tally: Tally) -> list[BatchJob]:
        """The jobs that earlier runs have handed in.

        One that never reached the server is forgotten: what it asks may not be wanted any more, and
        isn't in this run's estimate.
        """
        jobs = []
        for job in open_jobs(self.model):
            known = job
            if job.job_id is None and job.input_file_id is not None:
                made = await self._call(partial(self._find_job, client, job.input_file_id), tally)
                known = job.save(job_id=made.id) if made else job
            if known.job_id is None:
                known.discard()
            else:
                jobs.append(known)
        return jobs

    async def _round(
        self,
        client: openai.AsyncOpenAI,
        missing: Mapping[str, Request],
        earlier: Sequence[BatchJob],
        tally: Tally,
    ) -> dict[str, CallError]:
        """Let each missing request be answered once, in an earlier job or a new one.

        What an earlier job asks under another limit on tokens waits for its answer, which may do.

        Returns:
            Why requests are to be asked again, by their keys.
        """
        asked = {request.key_without_limit for job in earlier for request in job.requests}
        new = [each for each in missing.values() if each.key_without_limit not in asked]
        jobs = [*earlier, *new_jobs(new, self.limit_name, self.most_requests)]
        if self.most_requests is None:  # else one after the other
            jobs = [await self._hand_in(client, job, tally) for job in jobs]
        again: dict[str, CallError] = {}
        for job in jobs:
            again |= await self._collect(client, job, tally)
        for request in missing.values():
            if request.key_without_limit in asked and request.key not in tally.answers:
                entry = tally.cache.find(request)
                if entry is not None:
                    tally.reuse(request, entry)
        return again

    async def _hand_in(self, client: openai.AsyncOpenAI, job: BatchJob, tally: Tally) -> BatchJob:
        """Upload a job's requests and make the server's job, unless that has been done."""
        if job.input_file_id is None:
            content = b"".join(request_line(each, job.limit_name) for each in job.requests)
            uploaded = await self._call(
                lambda: client.files.create(file=(f"{job.name}.jsonl", content), purpose="batch"),
                tally,
            )
            job = job.save(input_file_id=uploaded.id)
        if job.job_id is None:
            assert job.input_file_id is not None
            made = await self._call(partial(self._make_job, client, job.input_file_id), tally)
            job = job.save(job_id=made.id)
        return job

    async def _make_job(self, client: openai.AsyncOpenAI, file_id: str) -> Batch:
        """The server's job of an uploaded file, which an attempt without a reply may have made."""
        return await self._find_job(client, file_id) or await client.batches.create(
            input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h"
        )

    @staticmethod
    async def _find_job(client: openai.AsyncOpenAI, file_id: str) -> Batch | None:
        """The server's job of an uploaded file, if there is one."""
        page = await client.batches.list(limit=100)
        async for made in _parsed(page):
            if made.input_file_id == file_id:
                return made
        return None

    async def _collect(
        self, client: openai.AsyncOpenAI, job: BatchJob, tally: Tally
    ) -> dict[str, CallError]:
        """Keep the answers of a job, which then is forgotten; why others are to be asked again."""
        if job.input_file_id is None and len(job.requests) > (self.most_requests or MOST_REQUESTS):
            job.discard()  # the server has just refused one as large; the next round cuts smaller
            return {}
        job = await self._hand_in(client, job, tally)
        status, outcomes = await self._outcomes(client, job, tally)
        again: dict[str, CallError] = {}
        for request in job.requests:
            failure = self._keep(request, outcomes.get(request.key), job, tally)
            if failure is not None:
                again[request.key] = failure
        if status == "cancelled" and again:
            self._end(
                f"the batch job {job.job_id} was cancelled at the server; run the stage again to "
                "have the rest asked"
            )
        job.discard()
        return again

    async def _outcomes(
        self, client: openai.AsyncOpenAI, job: BatchJob, tally: Tally
    ) -> tuple[str, dict[str, Outcome]]:
        """Wait until a job has ended: how it has, and what it gave, by the requests' keys."""
        ended = await self._wait(client, job, tally)
        if ended.status == "failed":  # nothing was asked
            return ended.status, self._refused_job(ended, job)
        outcomes: dict[str, Outcome] = {}
        limits = {request.key: request.max_tokens for request in job.requests}
        answered = ended.request_counts.completed if ended.request_counts else 0
        for file_id, least in ((ended.error_file_id, 0), (ended.output_file_id, answered)):
            if not file_id and not least:
                continue
            for fields in await self._fetch(client, file_id, least, job, tally):
                key = str(fields.get("custom_id"))
                if key in limits:
                    outcomes[key] = self._outcome(fields, limits[key])
        return ended.status, outcomes

    def _refused_job(self, ended: Batch, job: BatchJob) -> dict[str, Outcome]:
        """What a job gave that the server has refused: it may take a smaller one.

        Raises:
            CallError: It takes none.
        """
        errors = [*((ended.errors and ended.errors.data) or ())]
        reason = "; ".join(error.message or "" for error in errors)
        reason = " ".join(redact(reason, self.secret).split())[:300]
        codes = {error.code for error in errors}
        if "token_limit_exceeded" in codes and len(job.requests) > 1:
            half = len(job.requests) // 2
            self.most_requests = min(self.most_requests or half, half)
            failure = CallError("rate_limit", f"the server refuses a batch job ({reason})",
                                transient=True)  # fmt: skip
            return {request.key: failure for request in job.requests}
        job.discard()
        raise CallError("refused", f"the server refuses a batch job ({reason})", fatal=True)

    async def _fetch(
        self,
        client: openai.AsyncOpenAI,
        file_id: str | None,
        least: int,
        job: BatchJob,
        tally: Tally,
    ) -> list[Mapping[str, Any]]:
        """The lines of a file of answers, whole: what is missing there would be paid again.

        Args:
            client: The official client.
            file_id: The server's name for the file; None if it names none.
            least: The server says that it has so many lines.
            job: The job that it belongs to.
            tally: The count of the calls.

        Raises:
            UserError: It isn't whole, however often it is fetched.
        """

        async def lines() -> list[Mapping[str, Any]]:
            if not file_id:
                raise CallError("malformed", f"the server names no file of its {least} answers")
            content = await client.files.content(file_id)
            found = [decode(line) for line in content.text.split("\n") if line.strip()]
            if len(found) < least:
                message = f"the file {file_id} has {len(found)} answers of {least}"
                raise CallError("malformed", message, transient=True)
            return [line for line in found if isinstance(line, Mapping)]

        try:
            return await self._call(lines, tally)
        except CallError as failure:
            raise UserError(
                f"models.{self.name}: the answers of the batch job {job.job_id} can't be fetched "
                f"({failure}); run the stage again, or remove {job.path} to have all its requests "
                "asked, and paid, again."
            ) from failure

    async def _wait(self, client: openai.AsyncOpenAI, job: BatchJob, tally: Tally) -> Batch:
        assert job.job_id is not None
        job_id = job.job_id

        async def look() -> Batch:
            try:
                found = await self._call(lambda: client.batches.retrieve(job_id), tally)
            except CallError as failure:
                if failure.at_address:
                    raise UserError(
                        f"{job.path}: the server doesn't know its batch job {job_id}; set the key "
                        f"of the account that made it (models.{self.name}.api_key_env), or remove "
                        "the file, and its requests are handed in again."
                    ) from failure
                raise
            counts = found.request_counts
            done = f", {counts.completed + counts.failed} of {counts.total}" if counts else ""
            tally.show_state(f"{found.status}{done}")
            return found

        polling = AsyncRetrying(
            retry=retry_if_result(lambda found: found.status not in ENDED),
            wait=wait_exponential(multiplier=POLL_SECONDS, max=MOST_POLL_SECONDS),
            sleep=self._pause,
        )
        return await polling(look)

    def _outcome(self, fields: Mapping[str, Any], max_tokens: int) -> Outcome:
        """The answer of one line, or why there is none."""
        response = fields.get("response")
        response = response if isinstance(response, Mapping) else {}
        body = response.get("body")
        try:
            if response.get("status_code") == 200:
                answer = read_answer(body, 0.0, max_tokens, self.secret)
                # how long the model itself took isn't told
                return without_secret(self.secret, answer).model_copy(update={"seconds": None})
        except CallError as failure:
            return failure
        error = fields.get("error") or (body.get("error") if isinstance(body, Mapping) else None)
        error = error if isinstance(error, Mapping) else {"message": str(error or body)}
        code = f"{error.get('code') or ''} {error.get('type') or ''}".strip()
        text = redact(str(error.get("message")), self.secret)
        status = response.get("status_code")
        # without a status the request hasn't reached the model, as when the job has expired
        return from_status(status if isinstance(status, int) else 500, code, text)

    def _keep(
        self, request: Request, outcome: Outcome | None, job: BatchJob, tally: Tally
    ) -> CallError | None:
        """Keep an answer; else say why to ask again, or record that it would be of no use."""
        # not by a run with other prompts, nor kept before
        is_asked = request.key in tally.prompt_ids and not (
            request.key in tally.known or request.key in tally.answers
        )
        match outcome:
            case Answer() if is_asked:
                tally.store(request, outcome)
                self._end(self.served.add(outcome) or tally.over_budget())
            case Answer():
                tally.cache.put(request, outcome)
            case None:
                tally.fault("server_error")
                return CallError("server_error", "the batch job left it out", transient=True)
            case CallError() if outcome.transient or self._is_renamed(outcome, job.limit_name):
                tally.fault(outcome.kind)
                return outcome
            case CallError() if is_asked:
                self._record_failure(request, outcome, tally)
        return None

    async def _call(self, function: Callable[[], Awaitable[T]], tally: Tally) -> T:
        """Call the server, again where that may help.

        Raises:
            CallError: It stays without a reply.
        """

        async def once() -> T:
            await self._pause(self.not_before - asyncio.get_running_loop().time())
            try:
                return _parsed(await function())
            except Exception as error:
                failure = as_call_error(error, self.secret)
                if failure is None:
                    raise
                self._note_fault(failure, tally)
                raise failure from None

        return await self._attempts()(once)


def _parsed(reply: T) -> T:
    """A reply, which the client hands over as a text where it isn't JSON.

    Raises:
        CallError: It is such a text.
    """
    if isinstance(reply, str):
        raise CallError("malformed", "the server's reply isn't JSON", transient=True)
    return reply
