"""What a judge by a chat model costs when servers fail and runs are killed.

    python -m benchmarks.judging

A grade and two verdicts in both orders are asked for each of 200 answers, of a server that plays
faults and replies by the hash of the question; the run is killed twice and goes on.
"""

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import typer

sys.path.append("tests")
from judged_workspace import SCORE, judged_workspace, values
from remote_workspace import attempts, fault_server

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)


@app.command()
def main(prompts: int = 200, fault: float = 0.04) -> None:
    """Judge, kill, go on, and count at the server."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        with fault_server(log, fault=fault, latency=0.01, hang=3, retry_after=1) as url:
            w = judged_workspace(Path(folder), url, prompts, timeout_seconds=1.5, concurrency=8)
            again = sum(w.kill_when_kept(int(share * prompts), log, *SCORE) for share in (0.3, 1.5))
            for _ in range(2):
                kept, begin = w.cached(), time.time()
                w.run(*SCORE)
                again += w.asked_again(kept, begin, log)
        tries = attempts(log)
        answered = Counter(each["prompt"] for each in tries if each["got"] == "answer")
        rows = values(w)
    lost = sum(value is None for row in rows for value in row.values())
    flips = sum(row["flips"] or 0 for row in rows) / len(rows)
    failed = Counter(each["got"] for each in tries if each["got"] not in ("answer", "gone"))
    typer.echo(
        f"{prompts} answers, {3 * prompts} questions: {len(tries)} attempts at the server, "
        f"{sum(answered.values())} answered, {len(answered)} different ones; {again} asked again "
        f"although their answer was kept, {sum(answered.values()) - len(answered)} answered twice; "
        f"{lost} values lost; faults "
        f"{dict(sorted(failed.items()))}; the verdict flips with the order in {flips:.0%}"
    )


if __name__ == "__main__":
    app()
