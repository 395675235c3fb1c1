"""pair: weigh the scores of the pool and form the preference pairs.

Reads   artifacts/prompts/{train,valid}.jsonl, artifacts/responses/<model>.jsonl and
        artifacts/scores/<model>.jsonl of every model of the pool
Writes  artifacts/scored.jsonl (every response with all its scores), and in artifacts/pairs/
        {dpo,persodpo}.jsonl, chosen.jsonl (each prompt's best answer), scale.json (what was fitted
        on the pool), metrics.json, and {wins,scores,lengths,margins}.csv for plots
Params  pool, scorers (the metrics' ranges), scoring, pairing, sample.max_words,
        train.methods.<method>.data (which sets are needed)
"""

from persodpo.config import StageParams, read_params
from persodpo.config.pair import PairingParams, ScoringParams
from persodpo.config.sections import WordLimit
from persodpo.pair import (
    best_answers,
    check_numbers,
    fit_scale,
    form_pair_sets,
    pair_metrics,
    pair_rows,
    pair_texts,
    plot_data,
    pool_metrics,
    read_pool,
    report_excess,
    score_table,
    valid_overlap,
    value_numbers,
    weighted_metrics,
    write_table,
)
from persodpo.records import Prompt, read_rows, write_rows, write_text
from persodpo.runner import ARTIFACTS, run_stage, write_json
from persodpo.score import Scorers, declared_metrics

PAIRS = ARTIFACTS / "pairs"


class Method(StageParams):
    """What the stage reads of a method."""

    data: str


class Train(StageParams):
    """What the stage reads of the training."""

    methods: dict[str, Method]


class Params(StageParams):
    """What the stage reads of params.yaml."""

    pool: list[str]
    sample: WordLimit
    scorers: Scorers
    scoring: ScoringParams
    pairing: PairingParams
    train: Train


def main() -> None:
    """Run the stage."""
    params = read_params(Params)
    prompts = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    metrics = weighted_metrics(declared_metrics(params.scorers), params.scoring.weights)
    pool = read_pool(params.pool, prompts, metrics, ARTIFACTS)
    scale = fit_scale(pool, params.scoring, metrics, params.sample.max_words)
    table = score_table(pool, scale, params.scoring, metrics)
    needed = {method.data for method in params.train.methods.values()}
    sets = form_pair_sets(table, params.pairing, needed)
    texts = {which: pair_texts(which, table, params.pairing) for which in sets}
    checks = {
        which: check_numbers(pairs, table, texts[which], params.scoring)
        for which, pairs in sets.items()
    }
    overlap = valid_overlap(prompts, read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt))
    excess = report_excess(checks, overlap, needed, params.pairing)

    write_table(ARTIFACTS / "scored.jsonl", table)
    write_json(PAIRS / "scale.json", scale.model_dump())
    for which, pairs in sets.items():
        write_rows(PAIRS / f"{which}.jsonl", pair_rows(pairs, table, texts[which], prompts))
    write_rows(PAIRS / "chosen.jsonl", best_answers(table, prompts))
    numbers = {name: pair_metrics(pairs, table) for name, pairs in sets.items()}
    of_pool = {
        "pool": pool_metrics(table, metrics) | {"valid_overlap": overlap.share},
        "values": value_numbers(table, metrics),
        "excess": excess,
    }
    of_sets = {name: numbers[name] | {"checks": checks[name]} for name in sets}
    write_json(PAIRS / "metrics.json", of_pool | of_sets)
    for name, data in plot_data(sets, table).items():
        write_text(PAIRS / f"{name}.csv", data.to_csv(index=False))


if __name__ == "__main__":
    run_stage("pair", main)
