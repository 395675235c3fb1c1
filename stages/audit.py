"""audit: can each metric see what it is named for?

Reads   artifacts/prompts/valid.jsonl, the file that audit.opposites names
Writes  artifacts/audit/findings.csv (a row per metric and question), artifacts/audit/metrics.json
Params  launch, audit, score, scorers
"""

from persodpo.audit import audit_metrics, audit_numbers
from persodpo.config import StageParams, read_params
from persodpo.config.audit import AuditParams
from persodpo.config.score import ScoreParams
from persodpo.records import Prompt, read_rows, write_text
from persodpo.runner import ARTIFACTS, run_stage, write_json
from persodpo.score import Scorers


class Params(StageParams):
    """What the stage reads of params.yaml."""

    audit: AuditParams
    score: ScoreParams
    scorers: Scorers


def main() -> None:
    """Run the stage."""
    params = read_params(Params)
    prompts = read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt)
    findings = audit_metrics(prompts, params.scorers, params.audit, params.score.batch_tokens)
    write_text(ARTIFACTS / "audit/findings.csv", findings.to_csv(index=False))
    write_json(ARTIFACTS / "audit/metrics.json", audit_numbers(findings))


if __name__ == "__main__":
    run_stage("audit", main)
