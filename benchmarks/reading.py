"""Answers to read one by one: prompts drawn by a seed, each with every candidate's answer.

    python -m benchmarks.reading [--count 20] [--seed 44]

Prints the persona, the question, the golden answer and the answers, in an order that is drawn anew
for each prompt; the names come at the end, so that they don't bias the reader. Then, of all
prompts: answers of at most three words, and the commonest answers. Run it after `dvc repro`.
"""

import random
import string
from collections import Counter
from collections.abc import Iterable
from typing import Annotated

import typer

from persodpo.records import Evaluated, Prompt, Response, read_rows
from persodpo.runner import ARTIFACTS

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo
SHORT = 3


def read_responses() -> dict[str, dict[str, Response]]:
    """The responses by candidate and prompt."""
    return {
        file.stem: {row.response.id: row.response for row in read_rows(file, Evaluated)}
        for file in sorted((ARTIFACTS / "evaluations").glob("*.jsonl"))
    }


def commonest(responses: Iterable[Response]) -> str:
    """How many valid answers are short, and those that are given most often."""
    valid = [each for each in responses if each.contract == "valid"]
    counts = Counter(each.answer for each in valid).most_common(3)
    short = sum(each.words <= SHORT for each in valid)
    often = ", ".join(f"{count} x {text!r}" for text, count in counts)
    return f"{short} of {len(valid)} valid answers have at most {SHORT} words; {often}"


@app.command()
def main(
    count: Annotated[int, typer.Option(help="Prompts.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 44,
) -> None:
    """Print prompts with the answers to them, and the key to the letters last."""
    responses = read_responses()
    asked = sorted(responses.keys() - {"golden"})  # each prompt has the golden answer
    prompts = list(read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt))
    draw = random.Random(seed)  # noqa: S311 (nothing secret)
    key = []
    for prompt in draw.sample(prompts, min(count, len(prompts))):
        echo(f"\n## {prompt.id}\nPersona: {' '.join(prompt.persona)}\nQuestion: {prompt.turns[-1]}")
        echo(f"Golden: {prompt.golden_answer}")
        order = draw.sample(asked, len(asked))
        lettered = dict(zip(string.ascii_uppercase, order, strict=False))
        for letter, name in lettered.items():
            response = responses[name][prompt.id]
            echo(f"  {letter}: [{response.contract}] {response.answer or response.raw}")
        key.append(f"{prompt.id}: {', '.join(map(' '.join, lettered.items()))}")
    echo("\n" + "\n".join(["Key:", *key]) + "\n")
    for name, of_candidate in responses.items():
        echo(f"{name}: {commonest(of_candidate.values())}")


if __name__ == "__main__":
    app()
