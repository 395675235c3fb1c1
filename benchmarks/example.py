"""One dialogue on its way through the last run, as README.md shows it.

    python -m benchmarks.example [TRAINING PROMPT] [VALIDATION PROMPT]

Prints the persona, the question, the scored answers of the pool and the pairs that they form, and
what base and methods answer to another prompt. Run it after `make repro`.
"""

import math
import textwrap
from typing import Annotated

import pandas as pd
import typer

from persodpo.records import Evaluated, Pair, Prompt, read_rows
from persodpo.runner import ARTIFACTS
from persodpo.workflow.params import load_params

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo


def show_prompt(split: str, id_: str) -> None:
    """A prompt's persona and last question."""
    (prompt,) = [
        each for each in read_rows(ARTIFACTS / f"prompts/{split}.jsonl", Prompt) if each.id == id_
    ]
    echo(f"\n{split} prompt {id_}: {' '.join(prompt.persona)}\n  Question: {prompt.turns[-1]}")


@app.command()
def main(
    train: Annotated[str, typer.Argument(help="A training prompt.")] = "table-mountain#3",
    valid: Annotated[str, typer.Argument(help="A validation prompt.")] = "abu-simbel#3",
) -> None:
    """Print one training and one validation prompt with all that came of them."""
    show_prompt("train", train)
    scored = pd.read_json(ARTIFACTS / "scored.jsonl", lines=True, dtype=False)
    shown = ["sample", "contract", "s_total", "s_metric", "s_length", "s_format"]
    for row in scored[scored["id"] == train].to_dict("records"):
        numbers = ", ".join(
            f"{key} {row[key]:.2f}" if isinstance(row[key], float) else f"{key} {row[key]}"
            for key in shown
        )
        echo(textwrap.indent(f"{numbers}\n  {row['raw']}", "  "))
    for pair in read_rows(ARTIFACTS / "pairs/persodpo.jsonl", Pair):
        if pair.prompt_id == train:
            margin = pair.score_chosen - pair.score_rejected
            echo(f"  pair: sample {pair.sample_chosen} over {pair.sample_rejected}, margin "
                 f"{margin:.2f}, weight {1 / (1 + math.exp(-margin)):.2f}")  # fmt: skip
    show_prompt("valid", valid)
    for name in load_params().candidates():
        for each in read_rows(ARTIFACTS / f"evaluations/{name}.jsonl", Evaluated):
            if each.response.id == valid:
                echo(f"  {name} ({each.response.contract}): {each.response.raw!r}")


if __name__ == "__main__":
    app()
