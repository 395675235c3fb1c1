"""generate@<model>: let one model of the pool answer the training prompts.

Reads   artifacts/prompts/train.jsonl
Writes  artifacts/responses/<model>.jsonl
        artifacts/generation/<model>.json (metrics)
Params  launch, generate, models.<model>, sample.max_words
"""

from persodpo.generation import generate_responses
from persodpo.params import load_params
from persodpo.records import Prompt, read_rows, write_rows
from persodpo.stage import ARTIFACTS, pick, run_stage, write_json


def main(model: str) -> None:
    """Run the stage for one key of models."""
    params = load_params()
    settings = pick(params.models, model, "models")
    prompts = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    generated = generate_responses(
        model, settings, prompts, params.generate, params.sample.max_words
    )
    write_rows(ARTIFACTS / f"responses/{model}.jsonl", generated.responses)
    write_json(ARTIFACTS / f"generation/{model}.json", generated.metrics)


if __name__ == "__main__":
    run_stage(main, "model")
