"""baseline@<name> and evaluate@<method>: answer and score the validation prompts.

Reads   artifacts/prompts/valid.jsonl; evaluate also artifacts/policies/<method>/
Writes  artifacts/evaluations/<candidate>.jsonl (answers with scores)
Params  launch, generate, scorers, sample.max_words, the model's section in models
"""

from persodpo.evaluation import evaluate_candidate
from persodpo.params import load_params
from persodpo.records import Prompt, read_rows, write_rows
from persodpo.stage import ARTIFACTS, pick, run_stage


def main(candidate: str) -> None:
    """Run the stage for one key of evaluate.baselines or train.methods."""
    params = load_params()
    # before the prompts are read, so that a mistyped name is told first
    pick(dict.fromkeys(params.candidates()), candidate, "evaluate.baselines + train.methods")
    prompts = read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt)
    rows = evaluate_candidate(candidate, ARTIFACTS / f"policies/{candidate}", prompts, params)
    write_rows(ARTIFACTS / f"evaluations/{candidate}.jsonl", rows)


if __name__ == "__main__":
    run_stage(main, "candidate")
