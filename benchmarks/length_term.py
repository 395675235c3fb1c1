"""How much of each difference in S_total is the length term, and what is left without it.

    python -m benchmarks.length_term [NAME]

S_total rewards answers of a set length (`scoring.w1`, docs/metrics.md), so a method that changes
the length gains or loses by that alone. NAME is a run's, as for `python -m persodpo seeds`: an
experiment's, a folder's, or `workspace`, after `dvc repro`.
"""

from typing import Annotated

import pandas as pd
import typer

from persodpo.experiments import read_runs
from persodpo.intervals import mean_interval
from persodpo.report import interval_text


def difference_parts(
    totals: pd.DataFrame, lengths: pd.DataFrame, method: str, against: str, weight: float
) -> pd.DataFrame:
    """Per prompt a difference in S_total, what of it is the length term, and the rest.

    Args:
        totals: S_total, a row per prompt, a column per candidate.
        lengths: s_length, in the same form.
        method: A candidate.
        against: Another, whose values are subtracted.
        weight: Of the length term in S_total (`scoring.w1`).

    Returns:
        `total`, `length` and `rest`, a row per prompt.
    """
    total = totals[method] - totals[against]
    length = weight * (lengths[method] - lengths[against])
    return pd.DataFrame({"total": total, "length": length, "rest": total - length})


def main(name: Annotated[str, typer.Argument(help="A run.")] = "workspace") -> None:
    """Print a row per comparison of the report: means over all responses, in S_total."""
    (run,), _ = read_runs([name])
    totals, lengths = (run.scores.values(key) for key in ("s_total", "s_length"))
    rows = {}
    for against, method in run.compared():
        parts = difference_parts(totals, lengths, method, against, run.params.scoring.w1)
        rest = mean_interval(parts["rest"].to_numpy(), clusters=run.scores.clusters())
        rows[f"{method} - {against}"] = {
            "S_total": f"{parts['total'].mean():+.3f}",
            "of it length": f"{parts['length'].mean():+.3f}",
            "without length": interval_text(rest, "+"),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    typer.echo(table.to_markdown(disable_numparse=True))


if __name__ == "__main__":
    typer.run(main)
