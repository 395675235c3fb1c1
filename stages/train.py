"""train@<method>: fine-tune the base model on a pair set.

Reads   artifacts/pairs/{dpo,persodpo}.jsonl, artifacts/prompts/train.jsonl
Writes  artifacts/policies/<method>/ (a LoRA adapter or a whole model),
        artifacts/training/<method>.csv (the log), artifacts/training/<method>.json (metrics)
Params  launch, train (without the other methods), generate.date, sample.max_words, and of
        models.<train.model> what names it and what its chat template is given
"""

from persodpo.pairing import Pair
from persodpo.params import load_params
from persodpo.records import Prompt, read_rows, write_text
from persodpo.stage import ARTIFACTS, pick, run_stage, write_json
from persodpo.training.run import train_policy


def main(method: str) -> None:
    """Run the stage for one key of train.methods."""
    params = load_params()
    settings = pick(params.train.methods, method, "train.methods")
    run = train_policy(
        read_rows(ARTIFACTS / f"pairs/{settings.pairs}.jsonl", Pair),
        read_rows(ARTIFACTS / "prompts/train.jsonl", Prompt),
        settings,
        params.train,
        params.trained_model(),
        params.sample.max_words,
        params.generate.date,
        ARTIFACTS / f"policies/{method}",
    )
    write_text(ARTIFACTS / f"training/{method}.csv", run.log.to_csv(index=False))
    write_json(ARTIFACTS / f"training/{method}.json", run.metrics)
    run.discard_checkpoints()


if __name__ == "__main__":
    run_stage(main, "method")
