"""Answers to read one by one: prompts drawn by a seed, each with every candidate's answer.

    python -m benchmarks.reading [--count 20] [--seed 44]

Prints the persona, the question, the golden answer and the answers, in an order that is drawn anew
for each prompt; the names come at the end, so that they don't bias the reader. Run it after
`dvc repro`.
"""

import random
import string
from typing import Annotated

import typer

from persodpo.records import Evaluated, Prompt, read_rows
from persodpo.runner import ARTIFACTS

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo


def read_answers() -> dict[str, dict[str, str]]:
    """By candidate and prompt, the answer; of a response without one the raw text."""
    return {
        file.stem: {
            row.response.id: f"[{row.response.contract}] {row.response.answer or row.response.raw}"
            for row in read_rows(file, Evaluated)
        }
        for file in sorted((ARTIFACTS / "evaluations").glob("*.jsonl"))
    }


@app.command()
def main(
    count: Annotated[int, typer.Option(help="Prompts.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 44,
) -> None:
    """Print prompts with the answers to them, and the key to the letters last."""
    answers = read_answers()
    answers.pop("golden", None)  # each prompt has it
    prompts = list(read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt))
    draw = random.Random(seed)  # noqa: S311 (nothing secret)
    key = []
    for prompt in draw.sample(prompts, min(count, len(prompts))):
        echo(f"\n## {prompt.id}\nPersona: {' '.join(prompt.persona)}\nQuestion: {prompt.turns[-1]}")
        echo(f"Golden: {prompt.golden_answer}")
        order = draw.sample(sorted(answers), len(answers))
        lettered = dict(zip(string.ascii_uppercase, order, strict=False))
        for letter, name in lettered.items():
            echo(f"  {letter}: {answers[name][prompt.id]}")
        key.append(f"{prompt.id}: {', '.join(map(' '.join, lettered.items()))}")
    echo("\n" + "\n".join(["Key:", *key]))


if __name__ == "__main__":
    app()
