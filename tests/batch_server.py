"""A server with OpenAI's Batch API that answers every prompt by itself, and plays faults.

    python tests/batch_server.py --log answered.jsonl --fault 0.05

It prints its port, and logs a JSON line for every request that it answers, which is when one pays,
and for every job. Answers are those of fault_server.py. Used by tests and benchmarks.
"""

import argparse
import asyncio
import hashlib
import json
import random
import time

from aiohttp import web
from fault_server import reply_to, serve_app

FAULTS = ("server_error", "rate_limit", "dropped", "cut")


class BatchServer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.random = random.Random(args.seed)
        self.files: dict[str, bytes] = {}
        self.jobs: dict[str, dict] = {}
        self.log = open(args.log, "a", buffering=1)  # noqa: SIM115, PTH123

    @web.middleware
    async def faults(self, request: web.Request, handler) -> web.StreamResponse:
        """A fault in the place of a reply; where the connection breaks, what was asked is done."""
        draw = self.random.random()
        fault = int(draw / self.args.fault) if self.args.fault else len(FAULTS)
        kind = FAULTS[fault] if fault < len(FAULTS) else "none"
        if kind == "server_error":
            return web.json_response({"error": {"message": "broken"}}, status=500)
        if kind == "rate_limit":
            body = {"error": {"message": f"slowly, {request.headers.get('Authorization')}"}}
            return web.json_response(body, status=429, headers={"Retry-After": "0.1"})
        response = await handler(request)
        if kind == "dropped":
            request.transport.abort()
        if kind == "cut" and request.path.endswith("/content"):
            return web.Response(body=response.body[: len(response.body) // 2])
        return response

    async def upload(self, request: web.Request) -> web.Response:
        if self.args.refuse_upload:
            self.args.refuse_upload = False
            return web.json_response({"error": {"message": "too large"}}, status=413)
        form = await request.post()
        assert form["purpose"] == "batch"
        return web.json_response(self.file(form["file"].file.read()))

    def file(self, content: bytes) -> dict:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return {"id": name, "object": "file", "bytes": len(content), "created_at": 0,
                "filename": "x.jsonl", "purpose": "batch", "status": "processed"}  # fmt: skip

    async def content(self, request: web.Request) -> web.Response:
        body = self.files[request.match_info["id"]]
        if self.args.short or self.args.always_short:
            self.args.short = False
            body = b"".join(body.splitlines(keepends=True)[:-1])
        return web.Response(body=body)

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert body["endpoint"] == "/v1/chat/completions"
        job = {"id": f"batch-{len(self.jobs)}", "object": "batch", "created_at": int(time.time()),
               "endpoint": body["endpoint"], "input_file_id": body["input_file_id"],
               "completion_window": "24h", "status": "in_progress"}  # fmt: skip
        self.jobs[job["id"]] = job
        self.log.write(json.dumps({"job": job["id"]}) + "\n")
        n = len(self.files[body["input_file_id"]].splitlines())
        if n > self.args.most:
            errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]
            job |= {"status": "failed", "errors": {"object": "list", "data": errors}}
        elif self.args.refuse_jobs:
            errors = [{"code": "x", "message": self.args.refuse_jobs}]
            job |= {"status": "failed", "errors": {"object": "list", "data": errors}}
        else:
            asyncio.get_running_loop().call_later(self.args.seconds, self.finish, job)
        return web.json_response(job)

    def finish(self, job: dict) -> None:
        """Answer a job's requests; of the first job only half, if it is to expire."""
        lines = [json.loads(line) for line in self.files[job["input_file_id"]].splitlines()]
        expires = (self.args.expire or self.args.cancel) and len(self.jobs) == 1
        answered, failed = [], []
        for n, line in enumerate(lines):
            if expires and n >= len(lines) // 2:
                error = {"code": "batch_expired", "message": "not executed in 24 hours"}
                failed.append(self.line(line, None, error))
            elif "max_tokens" in line["body"] and self.args.renamed:
                message = "Unsupported parameter: use 'max_completion_tokens', not 'max_tokens'."
                failed.append(self.line(line, (400, {"error": {"message": message}}), None))
            elif self.random.random() < self.args.line_fault:
                failed.append(self.line(line, (500, {"error": {"message": "broken"}}), None))
            else:
                answered.append(self.line(line, (200, self.answer(line["body"])), None))
        ended = "cancelled" if self.args.cancel else "expired"
        job["status"] = ended if expires else "completed"
        job["request_counts"] = {"total": len(lines), "completed": len(answered),
                                 "failed": len(failed)}  # fmt: skip
        for name, each in (("output_file_id", answered), ("error_file_id", failed)):
            if each and not self.args.unnamed:
                self.random.shuffle(each)
                content = "".join(json.dumps(line) + "\n" for line in each)
                job[name] = self.file(content.encode())["id"]

    @staticmethod
    def line(asked: dict, response, error) -> dict:
        response = response and {"status_code": response[0], "request_id": "r", "body": response[1]}
        return {"id": "l", "custom_id": asked["custom_id"], "response": response, "error": error}

    def answer(self, body: dict) -> dict:
        content = body["messages"][-1]["content"]
        digest = hashlib.sha256(content.encode()).hexdigest()
        self.log.write(json.dumps({"prompt": digest, "body": body}) + "\n")
        return {
            "id": "x", "object": "chat.completion", "created": 0, "model": f"{body['model']}-0613",
            "choices": [{"index": 0, "finish_reason": "stop",
                         "message": {"role": "assistant", "content": reply_to(content)}}],
            "usage": {"prompt_tokens": len(content) // 4, "completion_tokens": 20},
        }  # fmt: skip

    async def job(self, request: web.Request) -> web.Response:
        if self.args.page:
            self.args.page = False
            return web.Response(text="<html>502</html>", content_type="text/html")
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            error = {"message": "No batch found"}
            return web.json_response({"error": error}, status=404)
        return web.json_response(job)

    async def list(self, request: web.Request) -> web.Response:
        """The newest first, three on a page."""
        jobs = list(self.jobs.values())[::-1]
        after = request.query.get("after")
        start = [job["id"] for job in jobs].index(after) + 1 if after else 0
        page = jobs[start : start + 3]
        return web.json_response({"object": "list", "data": page,
                                  "has_more": len(jobs) > start + 3})  # fmt: skip


async def serve(args: argparse.Namespace) -> None:
    server = BatchServer(args)
    app = web.Application(middlewares=[server.faults], client_max_size=2**28)
    app.router.add_post("/v1/files", server.upload)
    app.router.add_get("/v1/files/{id}/content", server.content)
    app.router.add_post("/v1/batches", server.create)
    app.router.add_get("/v1/batches", server.list)
    app.router.add_get("/v1/batches/{id}", server.job)
    await serve_app(app)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", required=True)
    parser.add_argument("--fault", type=float, default=0.0, help="probability of each fault")
    parser.add_argument("--line-fault", type=float, default=0.0, help="that a request fails")
    parser.add_argument("--seconds", type=float, default=0.5, help="until a job has ended")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--expire", action="store_true", help="the first job ends half done")
    parser.add_argument("--renamed", action="store_true", help="max_tokens is refused")
    parser.add_argument("--short", action="store_true", help="the first file lacks its last line")
    parser.add_argument("--always-short", action="store_true", help="so do all files")
    parser.add_argument("--cancel", action="store_true", help="the first job is cancelled then")
    parser.add_argument("--unnamed", action="store_true", help="no file of answers is named")
    parser.add_argument("--page", action="store_true", help="one reply is a page of a gateway")
    parser.add_argument("--refuse-upload", action="store_true", help="the first file is refused")
    parser.add_argument("--most", type=int, default=10**9, help="requests that a job may have")
    parser.add_argument("--refuse-jobs", help="every job is refused for this reason")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
