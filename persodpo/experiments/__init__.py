"""experiments: finished runs of the workflow, averaged over the seeds of their trainings.

In: runs of the workspace, of its last commit's experiments, and of other folders. Out: tables.

    runs.py     reads runs: settings and all candidates' values on all prompts
    seeds.py    means and differences over prompts and seeds together
    tables.py   both as tables
"""

from persodpo.experiments.runs import by_settings, not_averaged, read_runs
from persodpo.experiments.seeds import over_seeds
from persodpo.experiments.tables import brief_table, seed_tables

__all__ = [
    "brief_table",
    "by_settings",
    "not_averaged",
    "over_seeds",
    "read_runs",
    "seed_tables",
]
