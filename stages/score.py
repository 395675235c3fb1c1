"""score@<model>: compute the raw sub-scores of one model's responses.

Reads   artifacts/prompts/train.jsonl, artifacts/responses/<model>.jsonl
Writes  artifacts/scores/<model>.jsonl
Params  launch, scorers
"""

from persodpo.config import StageParams, read_params
from persodpo.config.scorers import ScorersParams
from persodpo.records import Prompt, Response, read_rows, write_rows
from persodpo.runner import ARTIFACTS, run_stage
from persodpo.score.run import score_responses


class Params(StageParams):
    """What the stage reads of params.yaml."""

    scorers: ScorersParams


def main(model: str) -> None:
    """Run the stage for one key of models."""
    prompts = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    responses = read_rows(ARTIFACTS / f"responses/{model}.jsonl", Response)
    scores = score_responses(prompts, responses, read_params(Params).scorers)
    write_rows(ARTIFACTS / f"scores/{model}.jsonl", scores)


if __name__ == "__main__":
    run_stage("score", main, "model")
