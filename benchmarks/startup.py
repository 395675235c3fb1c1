"""How long the small things take: in this folder, after a whole run of the workflow.

    python -m benchmarks.startup

The help of the command line, a run in which nothing has changed, other weights of the scores up to
the pairs (which are then brought back), and whether pair and report do without torch. Each is the
median of three runs after a first one that isn't counted; a busy machine is slower.
"""

import statistics
import subprocess
import sys
import time
from typing import Annotated

import typer

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo
WITHOUT_TORCH = ("stages.sample", "stages.pair", "stages.report")


def run(*command: str) -> str:
    """Run a command to its end; what it prints."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def seconds(repeats: int, *command: str) -> float:
    """The median time of a command."""
    run(*command)
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run(*command)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


@app.command()
def main(repeats: Annotated[int, typer.Option(help="Runs of each command.")] = 3) -> None:
    """Time the small things."""
    for module in WITHOUT_TORCH:
        loaded = run(sys.executable, "-c", f"import sys, {module}; print('torch' in sys.modules)")
        echo(f"{module} imports torch: {loaded.strip()}")
    help_ = seconds(repeats, sys.executable, "-m", "persodpo", "--help")
    echo(f"python -m persodpo --help: {help_:.2f} s")
    if "Running stage" in run("dvc", "repro"):
        echo("(the workflow had not run whole, and has now)")
    echo(f"dvc repro, nothing changed: {seconds(repeats, 'dvc', 'repro'):.2f} s")
    times = []
    for n in range(repeats + 1):
        begin = time.perf_counter()
        weight = f"scoring.w1={2 + n / 100}"
        name = f"startup_{n}"
        out = run("dvc", "exp", "run", "-n", name, "-S", weight, "pair")
        times.append(time.perf_counter() - begin)
        if "Running stage 'pair'" not in out:
            sys.exit(f"the stage pair did not run: {out}")
        run("git", "checkout", "params.yaml", "dvc.lock")
        run("dvc", "checkout", "pair")
        run("dvc", "exp", "remove", name)
    echo(f"dvc exp run -S scoring.w1=..., up to the pairs: {statistics.median(times[1:]):.2f} s")


if __name__ == "__main__":
    app()
