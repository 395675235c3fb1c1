"""baseline@<name> and evaluate@<method>: answer and score the validation prompts.

Reads   artifacts/prompts/valid.jsonl; evaluate also artifacts/policies/<method>/
Writes  artifacts/evaluations/<candidate>.jsonl (answers with scores),
        artifacts/evaluations/<candidate>.json (metrics)
Params  generate, scorers, sample.max_words, the model's section in models
"""

from persodpo.evaluation import evaluate_baseline, evaluate_policy, summarise
from persodpo.params import load_params
from persodpo.records import Prompt, read_rows, write_rows
from persodpo.stage import ARTIFACTS, pick, run_stage, write_json


def main(candidate: str) -> None:
    """Run the stage for one key of evaluate.baselines or train.methods."""
    params = load_params()
    if candidate not in params.evaluate.baselines:
        pick(params.train.methods, candidate, "train.methods")
    prompts = read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt)
    if candidate in params.evaluate.baselines:
        rows = evaluate_baseline(candidate, prompts, params)
    else:
        rows = evaluate_policy(candidate, ARTIFACTS / f"policies/{candidate}", prompts, params)
    write_rows(ARTIFACTS / f"evaluations/{candidate}.jsonl", rows)
    metrics = summarise(rows, params.sample.max_words)
    write_json(ARTIFACTS / f"evaluations/{candidate}.json", metrics)


if __name__ == "__main__":
    run_stage(main, "candidate")
