"""score@<model>: compute the raw sub-scores of one model's responses.

Reads   artifacts/prompts/train.jsonl, artifacts/responses/<model>.jsonl
Writes  artifacts/scores/<model>.jsonl
Params  launch, score, scorers; where a chat model judges, generate and its section in models
"""

from persodpo.config import StageParams, read_params
from persodpo.config.generate import GenerateParams
from persodpo.config.models import ModelParams
from persodpo.config.score import ScoreParams
from persodpo.generate import TextAsker
from persodpo.records import Prompt, Response, read_rows, write_rows
from persodpo.runner import ARTIFACTS, run_stage
from persodpo.score import Scorers, bound_scorers, score_responses


class Params(StageParams):
    """What the stage reads of params.yaml."""

    score: ScoreParams
    scorers: Scorers
    models: dict[str, ModelParams]
    generate: GenerateParams


def main(model: str) -> None:
    """Run the stage for one key of models."""
    params = read_params(Params)
    prompts = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    responses = read_rows(ARTIFACTS / f"responses/{model}.jsonl", Response)
    scorers = bound_scorers(params.scorers, TextAsker(params.models, params.generate))
    scores = score_responses(prompts, responses, scorers, params.score.batch_tokens)
    write_rows(ARTIFACTS / f"scores/{model}.jsonl", scores)


if __name__ == "__main__":
    run_stage("score", main, "model")
