"""experiments: finished runs of the workflow, averaged over the seeds of their trainings.

In: the workspace and the experiments of its last commit, as DVC keeps them. Out: tables.

    runs.py     reads runs: settings and all answers with their scores
    seeds.py    means and differences over prompts and seeds together
    tables.py   both as tables
"""

from persodpo.experiments.runs import read_runs
from persodpo.experiments.tables import brief_table, seed_tables

__all__ = ["brief_table", "read_runs", "seed_tables"]
