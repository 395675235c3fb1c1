"""What each stage of a run costs: its minutes and its memory at its peak.

    python -m benchmarks.stages

In a second terminal, in the folder in which `dvc repro` runs or is about to. It ends when the run
ends, or with Ctrl-C, and prints a table; of a stage in several processes, the largest one's memory.
Linux only: the peaks are the kernel's own. It looks once in two seconds, so a stage that takes less
can be missed.
"""

import re
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
import psutil
import typer

STAGE = re.compile(r" -m stages\.(\w+)(?: (\w+))?")


class Seen(NamedTuple):
    """A stage's process, as it was when it was last looked at.

    Attributes:
        begin: When it started, in seconds since the epoch.
        end: When it was last seen.
        peak: The most memory that it had had by then, in MB.
    """

    begin: float
    end: float
    peak: int


def look(folder: Path, seen: dict[str, Seen]) -> bool:
    """Note the stages that run in a folder; whether DVC or a stage runs there."""
    running = False
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if not Path(process.cwd()).is_relative_to(folder):
                continue
            running |= " repro" in command or " exp run" in command
            if not (found := STAGE.search(command)):
                continue
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            begin = process.create_time()
        except (psutil.Error, OSError):  # it has ended meanwhile, or is somebody else's
            continue
        running = True
        name = "@".join(part for part in found.groups() if part)
        high = re.search(r"VmHWM:\s+(\d+)", status)
        before = seen.get(name)
        seen[name] = Seen(
            begin=min(begin, before.begin) if before else begin,
            end=time.time(),
            peak=max(int(high[1]) * 1024 // 1_000_000 if high else 0, before.peak if before else 0),
        )
    return running


def main(
    folder: Annotated[Path, typer.Argument(help="Where the workflow runs.")] = Path(),
) -> None:
    """Watch a run to its end, and print what each stage took."""
    seen: dict[str, Seen] = {}
    folder, started = folder.resolve(), False
    try:
        while True:
            running = look(folder, seen)
            if started and not running:
                break
            started |= running
            time.sleep(2)
    except KeyboardInterrupt:
        pass
    ordered = sorted(seen.items(), key=lambda item: item[1].begin)
    table = pd.DataFrame(
        {
            "stage": [name for name, _ in ordered],
            "minutes": [f"{(each.end - each.begin) / 60:.1f}" for _, each in ordered],
            "MB at its peak": [f"{each.peak:,}" for _, each in ordered],
        }
    )
    typer.echo(table.to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    typer.run(main)
