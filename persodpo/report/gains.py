"""Does a method gain on the metrics that made its pairs only? Audit metrics tell."""

from collections.abc import Mapping

import pandas as pd

from persodpo.score import Metric


def one_sided_gains(
    compared: pd.DataFrame, metrics: Mapping[str, Metric], weighted: Mapping[str, object]
) -> list[str]:
    """Say where a method is better on what its pairs were formed by and on no audit metric.

    Args:
        compared: Rows of `persodpo.report.comparison.compare` against one candidate.
        metrics: What the values of each metric mean.
        weighted: The metrics that form pairs, by their keys.

    Returns:
        One sentence per such method, in the methods' order; none where there is no audit metric.
    """
    audit = [key for key in metrics if key not in weighted]
    if not audit:
        return []
    found = []
    for method, rows in compared.groupby("method", sort=False):
        better = set(rows.loc[rows["verdict"] == "better", "measure"])
        of_pairs = [metrics[key].label for key in metrics if key in weighted and key in better]
        if "s_total" in better:
            of_pairs.insert(0, "S_total")
        if of_pairs and not better & set(audit):
            against = rows["against"].iloc[0]
            found.append(
                f"{method} is better than {against} in {', '.join(of_pairs)}, by which pairs are "
                "formed, and in no audit metric: it may only have learnt to please these metrics."
            )
    return found
