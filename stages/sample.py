"""sample: draw dialogues and write them as prompts.

Reads   the files named by sample.train_file and sample.valid_file
Writes  artifacts/prompts/train.jsonl, artifacts/prompts/valid.jsonl
Params  sample
"""

from persodpo.params import load_params
from persodpo.records import write_rows
from persodpo.sampling import sample_prompts
from persodpo.stage import ARTIFACTS, run_stage


def main() -> None:
    """Run the stage."""
    train, valid = sample_prompts(load_params().sample)
    write_rows(ARTIFACTS / "prompts/train.jsonl", train)
    write_rows(ARTIFACTS / "prompts/valid.jsonl", valid)


if __name__ == "__main__":
    run_stage(main)
