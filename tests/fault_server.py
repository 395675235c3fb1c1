"""A server with OpenAI's chat API that answers every prompt by itself, and plays faults.

    python tests/fault_server.py --log attempts.jsonl --fault 0.05

It prints its port, and logs a JSON line for every attempt when it is over: when it
came and ended (seconds), what it was about (the hash of the prompt) and what it
got (`answer`, a fault's name, or `gone` if the client was). Used by tests and benchmarks.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import random
import sys
import time

from aiohttp import web

FAULTS = ("rate_limit", "server_error", "dropped", "timeout", "malformed", "empty")


def reply_to(content: str, better: str | None = None) -> str:
    """The one right answer to a prompt; to a judge's question a grade, or a verdict.

    `better` is the verdict of a judge that always gives the same.
    """
    digest = hashlib.sha256(content.encode()).hexdigest()
    if '{"grade"' in content:
        return json.dumps({"grade": 1 + int(digest, 16) % 5})
    if '{"better"' in content:
        return json.dumps({"better": better or ("A", "B", "tie")[int(digest, 16) % 3]})
    return json.dumps({"response": f"Answer {digest[:16]}"})


class FaultServer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.random = random.Random(args.seed)
        self.log = open(args.log, "a", buffering=1)  # noqa: SIM115, PTH123

    async def chat(self, request: web.Request) -> web.StreamResponse:
        came = time.time()
        body = await request.json()
        content = body["messages"][-1]["content"]
        got = "gone"
        try:
            draw = self.random.random()
            fault = int(draw / self.args.fault) if self.args.fault else len(FAULTS)
            kind = FAULTS[fault] if fault < len(FAULTS) else "answer"
            await asyncio.sleep(self.args.hang if kind == "timeout" else self.args.latency)
            if kind == "dropped":
                got = kind
                request.transport.abort()
            response = self.respond(kind, request, body, content)
            await response.prepare(request)
            await response.write_eof()
            got = kind
            return response
        finally:
            line = {"came": came, "ended": time.time(), "got": got,
                    "prompt": hashlib.sha256(content.encode()).hexdigest(),
                    "authorization": len(request.headers.get("Authorization", ""))}  # fmt: skip
            self.log.write(json.dumps(line) + "\n")

    def respond(self, kind, request, body, content) -> web.Response:
        if self.args.refuse and self.args.refuse in content:
            error = {"message": "filtered", "code": "content_filter"}
            return web.json_response({"error": error}, status=400)
        match kind:
            case "rate_limit":
                # a server that echoes what it was sent, the key too
                message = f"too many requests with {request.headers.get('Authorization')}"
                body = {"error": {"message": message}}
                headers = {"Retry-After": str(self.args.retry_after)}
                return web.json_response(body, status=429, headers=headers)
            case "server_error":
                return web.json_response({"error": {"message": "broken"}}, status=500)
            case "malformed":
                return web.Response(text='{"choices": [{"mess', content_type="application/json")
            case "empty":
                return web.json_response({"choices": [], "model": body["model"]})
        return web.json_response({
            "id": "x", "object": "chat.completion", "created": 0, "model": f"{body['model']}-0613",
            "system_fingerprint": "fp_test",
            "choices": [{"index": 0, "finish_reason": "stop", "message":
                         {"role": "assistant", "refusal": None,
                          "content": reply_to(content, self.args.better)}}],
            "usage": {"prompt_tokens": len(content) // 4, "completion_tokens": 20,
                      "total_tokens": len(content) // 4 + 20},
        })  # fmt: skip


async def serve_app(app: web.Application) -> None:
    """Serve on a free port, print it, and never end."""
    # a handler is told when its client is gone
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def serve(args: argparse.Namespace) -> None:
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # it plays broken connections
    app = web.Application()
    app.router.add_post("/v1/chat/completions", FaultServer(args).chat)
    await serve_app(app)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", required=True)
    parser.add_argument("--fault", type=float, default=0.0, help="probability of each fault")
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--hang", type=float, default=10.0, help="seconds of a time-out")
    parser.add_argument("--retry-after", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--better", help="every verdict on two answers: A, B or tie")
    parser.add_argument("--refuse", help="prompts with this text are refused for good")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
