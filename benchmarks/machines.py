"""What another kind of processor changes: the answers of two runs of the workflow, side by side.

    python -m benchmarks.machines A B

A and B are folders in which `dvc repro` has run, each on its own machine, or one of them with an
older processor emulated (ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 on one with AVX512;
ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 on one with
AVX2).
"""

import json
from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer

from persodpo.records import Evaluated, read_rows

echo = typer.echo


def compare(
    one: Annotated[Path, typer.Argument(help="A workspace.")],
    other: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Per candidate: prompts with the same answer, S_total; pairs of rows that change places."""
    totals = [json.loads((each / "results/metrics.json").read_text()) for each in (one, other)]
    for name in totals[0]:
        rows = [
            read_rows(each / f"artifacts/evaluations/{name}.jsonl", Evaluated)
            for each in (one, other)
        ]
        answers = [{row.response.id: row.response for row in each} for each in rows]
        ids = answers[0].keys() & answers[1].keys()
        same = sum(answers[0][id_].raw == answers[1][id_].raw for id_ in ids)
        kinds = [{f"{r.dtype} on {r.device}" for r in each.values()} for each in answers]
        echo(f"{name}: {same} of {len(ids)} answers the same; S_total "
             f"{totals[0][name]['s_total']:.3f} and {totals[1][name]['s_total']:.3f}; "
             f"{' and '.join(' or '.join(sorted(kind)) for kind in kinds)}")  # fmt: skip
    turned = [
        f"{a} and {b}"
        for a, b in combinations(totals[0], 2)
        if (totals[0][a]["s_total"] - totals[0][b]["s_total"])
        * (totals[1][a]["s_total"] - totals[1][b]["s_total"])
        < 0
    ]
    echo(f"rows that change places by S_total: {', '.join(turned) or 'none'}")


if __name__ == "__main__":
    typer.run(compare)
