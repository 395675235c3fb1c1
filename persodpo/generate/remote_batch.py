"""The backend `openai` in batch mode: requests handed in together and answered within a day.

By OpenAI's Batch API: requests are uploaded as a file, a job is made of it, and when the job has
ended its answers are fetched. OpenAI takes half the price for it. What a job leaves unanswered is
handed in again, in a job of its own.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import openai
from openai.types import Batch
from tenacity import AsyncRetrying, retry_if_result, wait_exponential

from persodpo.errors import UserError
from persodpo.generate.batch_jobs import BatchJob, new_jobs, open_jobs
from persodpo.generate.call import call_arguments, without_secret
from persodpo.generate.faults import CallError, as_call_error, from_status, redact
from persodpo.generate.remote import OpenAICaller
from persodpo.generate.reply import decode, read_answer
from persodpo.generate.request import Request
from persodpo.generate.tally import Tally
from persodpo.records import Answer

ENDPOINT: Final = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")
# A job's state is looked up after so many seconds, then after twice as many, up to the most.
POLL_SECONDS, MOST_POLL_SECONDS = 1, 60

T = TypeVar("T")
Outcome = Answer | CallError


class OpenAIBatchCaller(OpenAICaller):
    """Asks one model behind a server in batch jobs; see `OpenAICaller`."""

    async def _answer_all(self, requests: Sequence[Request], tally: Tally) -> None:
        """Fetch what is on its way, hand in the rest, and again what stays unanswered."""
        missing = {request.key: request for request in requests}
        failures: dict[str, CallError] = {}
        async with self._client() as client:
            try:
                for _ in range(self.model.attempts):
                    failures = await self._round(client, missing, tally)
                    missing = {key: missing[key] for key in failures}
                    if self.ended or not missing:
                        break
            except CallError as failure:
                self.ended = (
                    f"{self._with_hint(failure)}; batch jobs that are on their way are fetched by "
                    "the next run"
                )
        for key, request in missing.items():
            if key in failures:
                self._record_failure(request, failures[key], tally)

    async def _round(
        self, client: openai.AsyncOpenAI, missing: Mapping[str, Request], tally: Tally
    ) -> dict[str, CallError]:
        """Let each missing request be answered once.

        Returns:
            Why requests are to be asked again, by their keys.
        """
        jobs = open_jobs(self.model)
        on_their_way = {request.key for job in jobs for request in job.requests}
        new = [request for key, request in missing.items() if key not in on_their_way]
        jobs += new_jobs(new, self.limit_name)
        jobs = [await self._hand_in(client, job, tally) for job in jobs]
        again: dict[str, CallError] = {}
        for job in jobs:
            outcomes = await self._outcomes(client, job, tally)
            for request in job.requests:
                failure = self._keep(request, outcomes.get(request.key), job, tally)
                if failure is not None and request.key in missing:
                    again[request.key] = failure
            job.discard()
        return again

    async def _hand_in(self, client: openai.AsyncOpenAI, job: BatchJob, tally: Tally) -> BatchJob:
        """Upload a job's requests and make the server's job, unless that has been done."""
        if job.input_file_id is None:
            content = b"".join(_line(request, job.limit_name) for request in job.requests)
            uploaded = await self._call(
                lambda: client.files.create(file=(f"{job.name}.jsonl", content), purpose="batch"),
                tally,
            )
            job = job.save(input_file_id=uploaded.id)
        if job.job_id is None:
            made = await self._call(lambda: self._make_job(client, job), tally)
            job = job.save(job_id=made.id)
        return job

    @staticmethod
    async def _make_job(client: openai.AsyncOpenAI, job: BatchJob) -> Batch:
        """The server's job of an uploaded file: the one that an earlier attempt has made, if any.

        An attempt whose reply was lost may have made it all the same.
        """
        assert job.input_file_id is not None
        async for made in client.batches.list(limit=100):
            if made.input_file_id == job.input_file_id:
                return made
        return await client.batches.create(
            input_file_id=job.input_file_id, endpoint=ENDPOINT, completion_window="24h"
        )

    async def _outcomes(
        self, client: openai.AsyncOpenAI, job: BatchJob, tally: Tally
    ) -> dict[str, Outcome]:
        """Wait until a job has ended, and fetch what it gave, by the requests' keys."""
        ended = await self._wait(client, job, tally)
        if ended.status == "failed":
            job.discard()  # nothing was asked
            reasons = [error.message or "" for error in (ended.errors and ended.errors.data) or ()]
            reason = " ".join(redact("; ".join(reasons), self.secret).split())[:300]
            raise CallError("refused", f"the server refuses a batch job ({reason})", fatal=True)
        outcomes: dict[str, Outcome] = {}
        limits = {request.key: request.max_tokens for request in job.requests}
        answered = ended.request_counts.completed if ended.request_counts else 0
        for file_id, least in ((ended.error_file_id, 0), (ended.output_file_id, answered)):
            for fields in await self._fetch(client, file_id, least, job, tally) if file_id else ():
                key = str(fields.get("custom_id"))
                if key in limits:
                    outcomes[key] = self._outcome(fields, limits[key])
        return outcomes

    async def _fetch(
        self, client: openai.AsyncOpenAI, file_id: str, least: int, job: BatchJob, tally: Tally
    ) -> list[Mapping[str, Any]]:
        """The lines of a file of answers, whole: what is missing there would be paid again.

        Args:
            client: The official client.
            file_id: The server's name for the file.
            least: The server says that it has so many lines.
            job: The job that it belongs to.
            tally: The count of the calls.

        Raises:
            UserError: It isn't whole, however often it is fetched.
        """

        async def lines() -> list[Mapping[str, Any]]:
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
        is_asked = request.key in tally.prompt_ids
        match outcome:
            case Answer() if is_asked:
                tally.store(request, outcome)
                another = self.served.add(outcome)
                self.ended = self.ended or another or tally.over_budget()
            case Answer():  # asked by a run with other prompts
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
                return await function()
            except Exception as error:
                failure = as_call_error(error, self.secret)
                if failure is None:
                    raise
                self._note_fault(failure, tally)
                raise failure from None

        return await self._attempts()(once)


def _line(request: Request, limit_name: str) -> bytes:
    """A request in the file that is uploaded."""
    body = call_arguments(request, limit_name)
    body |= body.pop("extra_body", None) or {}
    line = {"custom_id": request.key, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(line).encode() + b"\n"
