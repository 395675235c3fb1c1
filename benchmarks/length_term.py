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


def main() -> None:
    """Print a row per comparison of the report: means over all responses, in S_total."""
    params = load_params()
    results = read_results(params.candidates(), params, ARTIFACTS)
    weight = params.scoring.w1
    of = {name: results.of(name).set_index("id") for name in results.candidates()}
    rows = {}
    for against, method in compared_pairs(results.candidates(), params.train.methods):
        total = of[method]["s_total"] - of[against]["s_total"]
        length = weight * (of[method]["s_length"] - of[against]["s_length"])
        rest = mean_interval((total - length).to_numpy(), clusters=results.clusters())
        rows[f"{method} - {against}"] = {
            "S_total": f"{total.mean():+.3f}",
            "of it length": f"{length.mean():+.3f}",
            "without length": interval_text(rest, "+") if rest else "n/a",
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    typer.echo(table.to_markdown(disable_numparse=True))


if __name__ == "__main__":
    typer.run(main)
