"""score@<model>: compute the raw sub-scores of one model's responses.

Reads   artifacts/prompts/train.jsonl, artifacts/responses/<model>.jsonl
Writes  artifacts/scores/<model>.jsonl
Params  launch, scorers
"""

from persodpo.params import load_params
from persodpo.records import Prompt, Response, read_rows, write_rows
from persodpo.scorers.run import score_responses
from persodpo.stage import ARTIFACTS, run_stage


def main(model: str) -> None:
    """Run the stage for one key of models."""
    prompts = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    responses = read_rows(ARTIFACTS / f"responses/{model}.jsonl", Response)
    scores = score_responses(prompts, responses, load_params().scorers)
    write_rows(ARTIFACTS / f"scores/{model}.jsonl", scores)


if __name__ == "__main__":
    run_stage(main, "model")
