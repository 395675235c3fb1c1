"""baseline@<name> and evaluate@<method>: answer and score the validation prompts.

Reads   artifacts/prompts/valid.jsonl; evaluate also artifacts/policies/<method>/
Writes  artifacts/evaluations/<candidate>.jsonl (answers with scores)
Params  launch, generate, score, scorers, sample.max_words, the model's section in models
"""

from persodpo.config import read_params
from persodpo.evaluate import EvaluationParams, evaluate_candidate
from persodpo.records import Prompt, read_rows, write_rows
from persodpo.runner import ARTIFACTS, pick, run_stage


def main(candidate: str) -> None:
    """Run the stage for one key of evaluate.baselines or train.methods."""
    params = read_params(EvaluationParams)
    # before the prompts are read, so that a mistyped name is reported first
    pick(params.candidates(), candidate, "evaluate.baselines + train.methods")
    prompts = read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt)
    rows = evaluate_candidate(candidate, ARTIFACTS / f"policies/{candidate}", prompts, params)
    write_rows(ARTIFACTS / f"evaluations/{candidate}.jsonl", rows)


if __name__ == "__main__":
    run_stage("evaluate", main, "candidate")
