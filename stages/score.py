"""score@<model>: compute the raw sub-scores of one model's responses.

Reads   artifacts/prompts/train.jsonl, artifacts/responses/<model>.jsonl
Writes  artifacts/scores/<model>.jsonl
Params  launch, score, scorers
"""

from persodpo.config import StageParams, read_params
from persodpo.config.score import ScoreParams
from persodpo.records import Prompt, Response, read_rows, write_rows
from persodpo.runner import ARTIFACTS, run_stage
from persodpo.score import Scorers, score_responses


class Params(StageParams):
    """What the stage reads of params.yaml."""

    score: ScoreParams
    scorers: Scorers


def main(model: str) -> None:
    """Run the stage for one key of models."""
    params = read_params(Params)
    prompts = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    responses = read_rows(ARTIFACTS / f"responses/{model}.jsonl", Response)
    scores = score_responses(prompts, responses, params.scorers, params.score.batch_tokens)
    write_rows(ARTIFACTS / f"scores/{model}.jsonl", scores)


if __name__ == "__main__":
    run_stage("score", main, "model")
