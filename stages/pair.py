"""pair: weigh the scores of all models and form the preference pairs.

Reads   artifacts/prompts/train.jsonl, artifacts/scores/<model>.jsonl of every model
Writes  artifacts/pairs/{dpo,persodpo}.jsonl, artifacts/pairs/metrics.json,
        artifacts/pairs/scores.csv (every response's scores), artifacts/pairs/distribution.csv
        (their histogram)
Params  scorers (the metrics' ranges), scoring, pairing
"""

from persodpo.pairing import (
    PAIR_SETS,
    make_pairs,
    pair_metrics,
    response_metrics,
    score_distribution,
)
from persodpo.params import load_params
from persodpo.records import Prompt, Score, read_rows, write_rows, write_text
from persodpo.scorers import declared_metrics
from persodpo.scoring import score_table
from persodpo.stage import ARTIFACTS, run_stage, write_json


def main() -> None:
    """Run the stage."""
    params = load_params()
    prompts = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    scores = [
        row
        for model in params.models
        for row in read_rows(ARTIFACTS / f"scores/{model}.jsonl", Score)
    ]
    metrics = declared_metrics(params.scorers)
    table = score_table(scores, params.scoring, metrics)
    pairs = {which: make_pairs(which, table, prompts, params.pairing) for which in PAIR_SETS}
    for which, rows in pairs.items():
        write_rows(ARTIFACTS / f"pairs/{which}.jsonl", rows)
    numbers = {which: pair_metrics(rows) for which, rows in pairs.items()}
    pool = response_metrics(table, metrics)
    write_json(ARTIFACTS / "pairs/metrics.json", {"pool": pool, **numbers})
    write_text(ARTIFACTS / "pairs/scores.csv", table.drop(columns="raw").to_csv(index=False))
    distribution = score_distribution(table, pairs["persodpo"])
    write_text(ARTIFACTS / "pairs/distribution.csv", distribution.to_csv(index=False))


if __name__ == "__main__":
    run_stage(main)
