"""The batch jobs of servers that are on their way, on disk, so that a killed run finds them again.

A job's file lies below `.cache/batch_jobs` from before its requests are sent until its answers are
kept. The server's job is found again by the file that was uploaded for it, whose id is written down
before the job is made; so no kill can have the same requests answered, and paid, twice.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from persodpo.config.models import OpenAIModel
from persodpo.errors import UserError
from persodpo.generate.call import call_arguments
from persodpo.generate.request import Request
from persodpo.records import Row, read_rows, write_rows
from persodpo.runner import cache_folder

ENDPOINT: Final = "/v1/chat/completions"
# What OpenAI takes in one job, by its guide to the Batch API 50,000 requests and 200 MB; with a
# reserve.
MOST_REQUESTS = 50_000
MOST_BYTES = 150_000_000


class BatchJob(Row):
    """Requests that are answered together.

    Attributes:
        name: Of its file.
        requests: What is asked.
        limit_name: How the limit on tokens is called in it.
        input_file_id: The server's name for the uploaded requests; None before the upload.
        job_id: The server's name for the job; None before it is made, or if that isn't known.
    """

    name: str
    requests: tuple[Request, ...]
    limit_name: str
    input_file_id: str | None = None
    job_id: str | None = None

    @property
    def path(self) -> Path:
        """Its file."""
        return _folder() / f"{self.name}.jsonl"

    def save(self, **changes: str) -> "BatchJob":
        """Write the job down, with what is new about it."""
        job = self.model_copy(update=changes)
        write_rows(job.path, [job])
        return job

    def discard(self) -> None:
        """Forget it, once its answers are kept."""
        self.path.unlink(missing_ok=True)


def _folder() -> Path:
    return cache_folder() / "batch_jobs"


def open_jobs(model: OpenAIModel) -> list[BatchJob]:
    """The jobs of a model that are on their way.

    Raises:
        UserError: A file is damaged.
    """
    jobs = []
    for path in sorted(_folder().glob("*.jsonl")):
        try:
            (job,) = read_rows(path, BatchJob)
        except (UserError, ValueError) as error:
            if not path.exists():  # another process has just fetched its answers
                continue
            raise UserError(
                f"{path}: it names a batch job that is on its way, and can't be read; look up your "
                "jobs at the server, and remove the file once you have cancelled this one."
            ) from error
        first = job.requests[0]
        if (first.base_url, first.model) == (model.base_url, model.model):
            jobs.append(job)
    return jobs


def new_jobs(
    requests: Sequence[Request], limit_name: str, most_requests: int | None = None
) -> Iterator[BatchJob]:
    """Cut requests into jobs as large as a server takes, each written down.

    Args:
        requests: What is asked.
        limit_name: How the limit on tokens is called.
        most_requests: Of one job; None for as many as OpenAI takes.
    """
    left = iter(requests)
    while chunk := tuple(
        islice(_up_to(left, MOST_BYTES, limit_name), most_requests or MOST_REQUESTS)
    ):
        yield BatchJob(name=uuid.uuid4().hex, requests=chunk, limit_name=limit_name).save()


def _up_to(requests: Iterator[Request], most_bytes: int, limit_name: str) -> Iterator[Request]:
    """Requests until they are so large together; at least one."""
    size = 0
    for request in requests:
        yield request
        size += len(request_line(request, limit_name))
        if size >= most_bytes:
            return


def request_line(request: Request, limit_name: str) -> bytes:
    """A request in the file that is uploaded."""
    body = call_arguments(request, limit_name)
    body |= body.pop("extra_body", None) or {}
    line = {"custom_id": request.key, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"
