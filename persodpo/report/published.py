"""The rows of the paper's Table 1, as published.

They stand beside ours for orientation and compare with none of them: other models answered other
prompts, and other scorers judged.
"""

from pathlib import Path

import pandas as pd

PUBLISHED_FILE = Path("data/published/table1.csv")
MARK = "†"
NOTE = f"""\
{MARK} as published (paper, Table 1): means over all responses of those models to 1,000 prompts of \
FoCUS, by Coh-UniEval and a BERT classifier. They show the paper's scale and don't compare with \
the rows above."""


def published_rows() -> pd.DataFrame:
    """The published means as texts, marked, one row per model and a column per metric."""
    table = pd.read_csv(PUBLISHED_FILE, index_col="candidate", dtype=str)
    table = table.map(lambda value: f"{float(value):.2f} {MARK}")
    table.index = [f"{name} {MARK}" for name in table.index]
    return table
