"""How much of each difference in S_total is the length term, and what is left without it.

    python -m benchmarks.length_term [NAME ...]

S_total rewards answers of a set length (`scoring.w1`, docs/metrics.md), so a method that changes
the length gains or loses by that alone. The last columns are over the prompts to which both
candidates gave a valid answer with every seed: a failed answer has 0 for all of S_total, so over
all responses a method that fails less gains by that. NAME is a run's, as for `python -m persodpo
seeds`: an experiment's, a folder's, or `workspace` (the default), after `dvc repro`. Of several
runs, which differ in the seed alone, it prints means over seeds, with intervals over seeds and
prompts.
"""

import sys
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from persodpo.experiments import not_averaged, over_seeds, read_runs
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


def main(names: Annotated[list[str] | None, typer.Argument(help="Runs.")] = None) -> None:
    """Print a row per comparison of the report: means over all responses, in S_total."""
    runs, _ = read_runs(names or ["workspace"])
    if sentences := not_averaged(runs):
        sys.exit(f"error: {sentences[0]}")
    ids, clusters = runs[0].scores.ids(), np.asarray(runs[0].scores.clusters())
    totals, lengths, failed = (
        [run.scores.values(key).loc[ids] for run in runs]
        for key in ("s_total", "s_length", "failed")
    )
    weight = runs[0].params.scoring.w1  # of all of them, which differ in the seed alone
    rows = {}
    for against, method in runs[0].compared():
        of_runs = [
            difference_parts(total, length, method, against, weight)
            for total, length in zip(totals, lengths, strict=True)
        ]
        rest = np.stack([parts["rest"].to_numpy() for parts in of_runs])
        valid = ~np.any([values[[method, against]].any(axis=1) for values in failed], axis=0)
        means = pd.concat(of_runs).mean()
        rows[f"{method} - {against}"] = {
            "S_total": f"{means['total']:+.3f}",
            "of it length": f"{means['length']:+.3f}",
            "without length": over_runs(rest, clusters),
            "both valid": str(valid.sum()),
            "of these, without length": over_runs(rest[:, valid], clusters[valid]),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    typer.echo(table.to_markdown(disable_numparse=True))


def over_runs(values: np.ndarray, clusters: np.ndarray) -> str:
    """The mean with its interval: over prompts, and over seeds where there are several.

    Args:
        values: Shape (runs, prompts), maybe without any prompt.
        clusters: The dialogue of each prompt.
    """
    if len(values) == 1 or not values.size:
        return interval_text(mean_interval(values[0], clusters=list(clusters)), "+")
    return interval_text(over_seeds(values, list(clusters)).interval, "+")


if __name__ == "__main__":
    typer.run(main)
