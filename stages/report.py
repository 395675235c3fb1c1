"""report: gather the metrics of all candidates into the tables of results/.

Reads   artifacts/evaluations/<candidate>.{json,jsonl} of every candidate,
        artifacts/pairs/metrics.json, artifacts/pairs/scale.json
Writes  results/table1.md, results/candidates.csv (small, kept in git)
Params  all sections: a result belongs to a whole params.yaml
"""

from persodpo.params import load_params
from persodpo.pipeline import refuse_stale_lists
from persodpo.records import Evaluated, read_rows, write_text
from persodpo.report import candidates_table, table_1, total_score
from persodpo.scorers import declared_metrics
from persodpo.scoring import Scale
from persodpo.stage import ARTIFACTS, RESULTS, read_json, run_stage


def main() -> None:
    """Run the stage."""
    params = load_params()
    refuse_stale_lists("report", params)
    metrics = declared_metrics(params.scorers)
    scale = Scale.model_validate(read_json(ARTIFACTS / "pairs/scale.json"))
    summaries = {}
    for name in params.candidates():
        rows = read_rows(ARTIFACTS / f"evaluations/{name}.jsonl", Evaluated)
        summaries[name] = {
            **read_json(ARTIFACTS / f"evaluations/{name}.json"),
            "s_total": total_score(rows, scale, params.scoring, metrics),
        }
    pairs = read_json(ARTIFACTS / "pairs/metrics.json")
    table = table_1(summaries, pairs, metrics)
    write_text(RESULTS / "table1.md", table)
    write_text(RESULTS / "candidates.csv", candidates_table(summaries).to_csv(index=False))


if __name__ == "__main__":
    run_stage(main)
