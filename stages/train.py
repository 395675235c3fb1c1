"""train@<method>: fine-tune the base model, or another method's policy.

Reads   artifacts/pairs/{golden,chosen,dpo,persodpo}.jsonl, artifacts/prompts/train.jsonl,
        artifacts/policies/<start>/
Writes  artifacts/policies/<method>/ (a LoRA adapter or a whole model),
        artifacts/training/<method>.csv (the log), artifacts/training/<method>.json (metrics)
Params  launch, train (without the other methods), generate.date, sample.max_words, and of
        models.<train.model> what names it and what its chat template is given
"""

from persodpo.config import StageParams, read_params
from persodpo.config.models import ModelParams, TransformersModel
from persodpo.config.sections import Day, WordLimit
from persodpo.config.train import BASE, SftMethod, TrainParams
from persodpo.records import Demonstration, Pair, Prompt, read_rows, write_text
from persodpo.runner import ARTIFACTS, pick, run_stage, write_json


class Generate(StageParams):
    """What the stage reads of the generation."""

    date: Day


class Params(StageParams):
    """What the stage reads of params.yaml."""

    generate: Generate
    models: dict[str, ModelParams]
    sample: WordLimit
    train: TrainParams


def main(method: str) -> None:
    """Run the stage for one key of train.methods."""
    params = read_params(Params)
    settings = pick(params.train.methods, method, "train.methods")
    # imported late, so that a mistake is reported before the seconds that TRL takes
    from persodpo.train import train_policy  # noqa: PLC0415

    base = params.models[params.train.model]
    assert isinstance(base, TransformersModel)  # checked before the stage
    row_type = Demonstration if isinstance(settings, SftMethod) else Pair
    log_file = ARTIFACTS / f"training/{method}.csv"
    run = train_policy(
        read_rows(ARTIFACTS / f"pairs/{settings.data}.jsonl", row_type),
        read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt),
        settings,
        params.train,
        base,
        params.sample.max_words,
        params.generate.date,
        ARTIFACTS / f"policies/{method}",
        None if settings.start == BASE else ARTIFACTS / f"policies/{settings.start}",
        log_file,
    )
    # what the guard cut off isn't the policy's
    write_text(log_file, run.log.to_csv(index=False))
    write_json(ARTIFACTS / f"training/{method}.json", run.metrics)
    run.discard_checkpoints()


if __name__ == "__main__":
    run_stage("train", main, "method")
