"""Answers to read one by one: prompts drawn by a seed, each with every candidate's answer.

    python -m benchmarks.reading [--count 20] [--seed 44]

Prints the persona, the question, the golden answer and the answers, in an order that is drawn anew
for each prompt. Names and metrics come at the end, so that they don't bias the reader. Then, of all
prompts: answers of at most three words, and the commonest answers. Run it after `dvc repro`.
"""

import random
from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import typer

from persodpo.records import Evaluated, Prompt, read_rows
from persodpo.runner import ARTIFACTS

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo
SHORT = 3


def read_answers() -> dict[str, dict[str, Evaluated]]:
    """The evaluated responses by candidate and prompt."""
    return {
        file.stem: {row.response.id: row for row in read_rows(file, Evaluated)}
        for file in sorted((ARTIFACTS / "evaluations").glob("*.jsonl"))
    }


def key_line(number: int, name: str, row: Evaluated) -> str:
    """Who gave an answer, and what the metrics make of it."""
    values = row.score.values.items()
    shown = (f"{key} {'n/a' if value is None else f'{value:.2f}'}" for key, value in values)
    return f"  {number} {name}: {', '.join(shown)}"


def commonest(rows: Iterable[Evaluated]) -> str:
    """How many valid answers are short, and those that are given most often."""
    valid = [row.response for row in rows if row.response.contract == "valid"]
    counts = Counter(each.answer for each in valid).most_common(3)
    short = sum(each.words <= SHORT for each in valid)
    often = ", ".join(f"{count} x {text!r}" for text, count in counts)
    return f"{short} of {len(valid)} valid answers have at most {SHORT} words; {often}"


@app.command()
def main(
    count: Annotated[int, typer.Option(help="Prompts.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 44,
) -> None:
    """Print prompts with the answers to them, and last who gave which."""
    answers = read_answers()
    asked = sorted(answers.keys() - {"golden"})  # each prompt has the golden answer
    prompts = list(read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt))
    draw = random.Random(seed)  # noqa: S311 (nothing secret)
    key = []
    for prompt in draw.sample(prompts, min(count, len(prompts))):
        echo(f"\n## {prompt.id}\nPersona: {' '.join(prompt.persona)}\nQuestion: {prompt.turns[-1]}")
        echo(f"Golden: {prompt.golden_answer}")
        key.append(prompt.id)
        for number, name in enumerate(draw.sample(asked, len(asked)), start=1):
            row = answers[name][prompt.id]
            echo(f"  {number}: [{row.response.contract}] {row.response.answer or row.response.raw}")
            key.append(key_line(number, name, row))
    echo("\n## Key\n" + "\n".join(key) + "\n")
    for name, rows in answers.items():
        echo(f"{name}: {commonest(rows.values())}")


if __name__ == "__main__":
    app()
