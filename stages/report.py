"""report: gather the metrics of all candidates into the tables of results/.

Reads   artifacts/evaluations/<candidate>.json of every candidate, artifacts/pairs/metrics.json
Writes  results/table1.md, results/candidates.csv (small, kept in git)
Params  all sections: a result belongs to a whole params.yaml
"""

from persodpo.params import load_params
from persodpo.records import write_text
from persodpo.report import candidates_table, table_1
from persodpo.scorers import declared_metrics
from persodpo.stage import ARTIFACTS, RESULTS, read_json, run_stage


def main() -> None:
    """Run the stage."""
    params = load_params()
    summaries = {
        name: read_json(ARTIFACTS / f"evaluations/{name}.json") for name in params.candidates()
    }
    pairs = read_json(ARTIFACTS / "pairs/metrics.json")
    table = table_1(summaries, pairs, declared_metrics(params.scorers))
    write_text(RESULTS / "table1.md", table)
    write_text(RESULTS / "candidates.csv", candidates_table(summaries).to_csv(index=False))


if __name__ == "__main__":
    run_stage(main)
