"""What waiting threads cost: one training step and one generation, alone and beside a busy process.

    python -m benchmarks.threads compare

torch's OpenMP threads wait for each other by spinning, unless OMP_WAIT_POLICY is PASSIVE, which
the package sets before torch is imported. Each way runs in a process of its own. Spinning is what
libgomp does where nothing is set, 300,000 rounds (GOMP_SPINCOUNT in GCC's documentation of
libgomp), which wins over the policy.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
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
POLICIES = {"passive": {"OMP_WAIT_POLICY": "PASSIVE"}, "spinning": {"GOMP_SPINCOUNT": "300000"}}


@app.command()
def compare(rounds: int = 2) -> None:
    """Seconds and their ratio, idle and beside one busy process."""
    for neighbours in (0, 1):
        found: dict[str, list[float]] = {}
        for policy, environment in POLICIES.items():
            busy = [
                subprocess.Popen([sys.executable, "-c", "while True: pass"])
                for _ in range(neighbours)
            ]
            try:
                done = subprocess.run(  # noqa: S603
                    [sys.executable, "-m", "benchmarks.threads", "measure", str(rounds)],
                    env=os.environ | environment, check=True, capture_output=True, text=True,
                )  # fmt: skip
            finally:
                for process in busy:
                    process.kill()
            found[policy] = [float(each) for each in done.stdout.split()[-2:]]
        for i, what in enumerate(("one training step", "one generation")):
            passive, spinning = found["passive"][i], found["spinning"][i]
            echo(f"{what} beside {neighbours} busy processes: {passive:.2f} s passive, "
                 f"{spinning:.2f} s spinning, ratio {spinning / passive:.2f}")  # fmt: skip


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
