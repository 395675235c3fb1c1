"""How much of each difference in S_total is the length term, and what is left without it.

    python -m benchmarks.length_term

S_total rewards answers of a set length (`scoring.w1`, docs/metrics.md), so a method that changes
the length gains or loses by that alone. Run it after `dvc repro`.
"""

import pandas as pd
import typer

from persodpo.intervals import mean_interval
from persodpo.report import compared_pairs, interval_text, read_results
from persodpo.runner import ARTIFACTS
from persodpo.workflow import load_params


def difference_parts(method: pd.DataFrame, against: pd.DataFrame, weight: float) -> pd.DataFrame:
    """Per prompt a difference in S_total, what of it is the length term, and the rest.

    Args:
        method: `id`, `s_total` and `s_length` of each prompt.
        against: The same of the candidate that it is compared with, in any order.
        weight: Of the length term in S_total (`scoring.w1`).

    Returns:
        `total`, `length` and `rest`, in the order of the method's prompts.
    """
    both = method.merge(against, on="id", suffixes=("", "_against"), validate="one_to_one")
    total = both["s_total"] - both["s_total_against"]
    length = weight * (both["s_length"] - both["s_length_against"])
    return pd.DataFrame({"total": total, "length": length, "rest": total - length})


def main() -> None:
    """Print a row per comparison of the report: means over all responses, in S_total."""
    params = load_params()
    results = read_results(params.candidates(), params, ARTIFACTS)
    rows = {}
    for against, method in compared_pairs(results.candidates(), params.train.methods):
        parts = difference_parts(results.of(method), results.of(against), params.scoring.w1)
        rest = mean_interval(parts["rest"].to_numpy(), clusters=results.clusters())
        rows[f"{method} - {against}"] = {
            "S_total": f"{parts['total'].mean():+.3f}",
            "of it length": f"{parts['length'].mean():+.3f}",
            "without length": interval_text(rest, "+"),
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    typer.echo(table.to_markdown(disable_numparse=True))


if __name__ == "__main__":
    typer.run(main)
