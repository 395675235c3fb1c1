"""What waiting threads and small pages of memory cost: one training step and one generation.

    python -m benchmarks.threads compare      threads, alone and beside a busy process
    python -m benchmarks.threads pages        memory in pages of 4 kB and in huge ones (glibc only)

torch's OpenMP threads wait for each other by spinning, so many rounds as GOMP_SPINCOUNT says (GCC's
documentation of libgomp), before they sleep. Compared are none, the 5,000 that the package sets
before torch is imported, and the 300,000 that libgomp takes by itself. Each runs in a process of
its own, which is given up after some minutes: a round that never ends is an answer, too.

glibc gives every large block back to the kernel as soon as it is freed, and each new one is cleared
page by page. HUGE_PAGES has it keep them, in huge pages (glibc's manual, "Memory Allocation
Tunables").
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import typer

from persodpo.generate.local import TransformersCaller, answer_requests
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.loading import load_causal_lm, load_tokenizer
from persodpo.sample.draw import sample_prompts
from persodpo.workflow.params import load_params

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo
KEY = "the packaged model"
SPINS = (0, 5_000, 300_000)
WHAT = ("training step", "generation")
KEPT = 32 * 2**30
HUGE_PAGES = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:"
    f"glibc.malloc.mmap_threshold={KEPT}:glibc.malloc.trim_threshold={KEPT}"
}


@app.command()
def compare(rounds: int = 2, patience: float = 120) -> None:
    """Seconds by rounds of spinning, idle and beside one busy process, and ratios to none."""
    for neighbours in (0, 1):
        first: list[float] = []
        for spins in SPINS:
            environment = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(spins)}
            seconds = _seconds(neighbours, environment, rounds, patience)
            first = first or seconds
            found = ", ".join(
                f"{what} {each:.2f} s ({each / none:.2f} of none)"
                for what, each, none in zip(WHAT, seconds, first, strict=False)
            )
            echo(f"{neighbours} busy processes, {spins:,} spins: "
                 f"{found or f'not done after {patience:g} s'}")  # fmt: skip


@app.command()
def pages(rounds: int = 5, patience: float = 120) -> None:
    """Seconds with memory in pages of 4 kB and in huge pages, on an idle machine, and ratios."""
    small, huge = (_seconds(0, each, rounds, patience) for each in ({}, HUGE_PAGES))
    for what, before, after in zip(WHAT, small, huge, strict=True):
        echo(f"{what}: {before:.2f} s in pages of 4 kB, {after:.2f} s in huge pages, "
             f"{before / after:.2f} times as fast")  # fmt: skip


def _seconds(
    neighbours: int, environment: Mapping[str, str], rounds: int, patience: float
) -> list[float]:
    """Of a training step and a generation; none of a process that was given up."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "benchmarks.threads", "measure", str(rounds)],
            env=os.environ | dict(environment), check=True, capture_output=True, text=True,
            timeout=patience,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return []
    finally:
        for process in busy:
            process.kill()
    return [float(each) for each in done.stdout.split()[-2:]]


@app.command(hidden=True)
def measure(rounds: int) -> None:
    """Median seconds of a training step and of a generation, in this process."""
    params = load_params(Path("params.yaml"))
    prompts = sample_prompts(params.sample)[0][:4]
    model, generate = params.trained_model(), params.generate
    tokenizer = load_tokenizer(model.model, None, KEY)
    template = ChatTemplate(tokenizer, generate.date, None, KEY)
    weights = load_causal_lm(model.model, None, KEY, torch.float32)
    text = " ".join(prompt.text for prompt in prompts)
    ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=300)["input_ids"]

    def step() -> None:
        weights.zero_grad()
        weights(input_ids=ids, labels=ids).loss.backward()

    few = model.model_copy(update={"max_tokens": 20})
    requests = TransformersCaller("m", few, generate).requests(prompts, params.sample.max_words)

    def write() -> None:
        answer_requests(weights, template, requests, 4, lambda *_: None)

    echo(f"{_median(step, rounds)} {_median(write, rounds)}")


def _median(run: Callable[[], None], rounds: int) -> float:
    run()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


if __name__ == "__main__":
    app()
