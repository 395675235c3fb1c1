"""sample: draw dialogues and write them as prompts.

Reads   the files named by sample.train_file and sample.valid_file
Writes  artifacts/prompts/train.jsonl, artifacts/prompts/valid.jsonl,
        artifacts/pairs/golden.jsonl (the training prompts with their golden answers)
Params  sample
"""

from persodpo.config import StageParams, read_params
from persodpo.config.sample import SampleParams
from persodpo.records import write_rows
from persodpo.runner import ARTIFACTS, run_stage
from persodpo.sample import golden_demonstrations, sample_prompts


class Params(StageParams):
    """What the stage reads of params.yaml."""

    sample: SampleParams


def main() -> None:
    """Run the stage."""
    train, valid = sample_prompts(read_params(Params).sample)
    write_rows(ARTIFACTS / "prompts/train.jsonl", train)
    write_rows(ARTIFACTS / "prompts/valid.jsonl", valid)
    write_rows(ARTIFACTS / "pairs/golden.jsonl", golden_demonstrations(train))


if __name__ == "__main__":
    run_stage("sample", main)
