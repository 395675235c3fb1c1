"""baseline@<name> and evaluate@<method>: answer and score the validation prompts.

Reads   artifacts/prompts/valid.jsonl; evaluate also artifacts/policies/<method>/
Writes  artifacts/evaluations/<candidate>.jsonl (answers with scores)
Params  launch, generate, score, scorers, sample.max_words, the model's section in models
"""

from persodpo.config import StageParams, read_params
from persodpo.config.evaluate import EvaluateParams
from persodpo.config.generate import GenerateParams
from persodpo.config.models import ModelParams
from persodpo.config.score import ScoreParams
from persodpo.config.sections import WordLimit
from persodpo.evaluate import evaluate_candidate
from persodpo.records import Prompt, read_rows, write_rows
from persodpo.runner import ARTIFACTS, pick, run_stage
from persodpo.score import Scorers


class Train(StageParams):
    """What the stage reads of the training."""

    model: str
    methods: dict[str, object]


class Params(StageParams):
    """What the stage reads of params.yaml."""

    evaluate: EvaluateParams
    generate: GenerateParams
    models: dict[str, ModelParams]
    sample: WordLimit
    score: ScoreParams
    scorers: Scorers
    train: Train


def main(candidate: str) -> None:
    """Run the stage for one key of evaluate.baselines or train.methods."""
    params = read_params(Params)
    of_methods = dict.fromkeys(params.train.methods, params.train.model)
    candidates = params.evaluate.baselines | of_methods
    key = pick(candidates, candidate, "evaluate.baselines + train.methods")
    rows = evaluate_candidate(
        candidate,
        key,
        params.models[key],
        ARTIFACTS / f"policies/{candidate}" if candidate in of_methods else None,
        read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt),
        params.generate,
        params.scorers,
        params.score,
        params.sample.max_words,
    )
    write_rows(ARTIFACTS / f"evaluations/{candidate}.jsonl", rows)


if __name__ == "__main__":
    run_stage("evaluate", main, "candidate")
