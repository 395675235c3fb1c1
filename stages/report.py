"""report: all candidates side by side, as tables, figures and a page in results/.

Reads   artifacts/evaluations/<candidate>.jsonl of every candidate, artifacts/prompts/valid.jsonl,
        artifacts/training/<method>.csv of every method,
        artifacts/audit/findings.csv,
        artifacts/pairs/{metrics,scale}.json, artifacts/pairs/{scores,lengths,margins}.csv
Writes  results/{table1,comparison,audit}.md, metrics.json, scores.csv, candidates.csv,
        figure2{a,b,c}.svg and report.html (small, kept in git)
Params  all sections: a result belongs to a whole params.yaml
"""

from persodpo.report import read_sources, write_results
from persodpo.runner import ARTIFACTS, RESULTS, run_stage
from persodpo.workflow import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    write_results(read_sources(params, ARTIFACTS), params, RESULTS)


if __name__ == "__main__":
    run_stage("report", main)
