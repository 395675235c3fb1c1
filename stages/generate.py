"""generate@<model>: let one model of the pool answer the training prompts.

Reads   artifacts/prompts/train.jsonl; artifacts/policies/<method>/ if the model is a policy
Writes  artifacts/responses/<model>.jsonl
        artifacts/generation/<model>.json (metrics)
Params  launch, generate, models.<model>, sample.max_words; of a policy also train.model, and of
        models.<train.model> what names it and what its chat template is given
"""

from persodpo.config import StageParams, read_params
from persodpo.config.generate import GenerateParams
from persodpo.config.models import ModelParams
from persodpo.config.sections import WordLimit
from persodpo.generate import answering_model, generate_responses
from persodpo.records import Prompt, read_rows, write_rows
from persodpo.runner import ARTIFACTS, pick, run_stage, write_json


class Train(StageParams):
    """What the stage reads of the training."""

    model: str


class Params(StageParams):
    """What the stage reads of params.yaml."""

    generate: GenerateParams
    models: dict[str, ModelParams]
    sample: WordLimit
    train: Train


def main(model: str) -> None:
    """Run the stage for one key of models."""
    params = read_params(Params)
    pick(params.models, model, "models")
    prompts = read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt)
    answering = answering_model(model, params.models, params.train.model, ARTIFACTS)
    generated = generate_responses(
        model,
        answering.model,
        prompts,
        params.generate,
        params.sample.max_words,
        answering.policy,
        weights_key=answering.weights_key,
    )
    write_rows(ARTIFACTS / f"responses/{model}.jsonl", generated.responses)
    write_json(ARTIFACTS / f"generation/{model}.json", generated.metrics)


if __name__ == "__main__":
    run_stage("generate", main, "model")
