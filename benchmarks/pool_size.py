"""Time and memory of the stage pair on random pools of growing size.

    python -m benchmarks.pool_size                       from 7,000 to 350,000 responses
    python -m benchmarks.pool_size --prompts 150000      one size, here of 1,050,000 responses

The texts are random words: some 30 in an answer, as in FoCUS, and some 150 in a prompt. The other
stages hold less at a time: score one model's responses, train one pair set, report no response of
the pool.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import typer
import yaml

from benchmarks.pairing import run_pair_stage
from persodpo.prompts import wrap_response
from persodpo.records import Prompt, Response, Score, write_rows
from persodpo.runner import ARTIFACTS
from persodpo.workflow.params import load_params

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
MODELS = 7
VOCABULARY = np.array([f"word{number}" for number in range(20_000)])


def texts(rng: np.random.Generator, n: int, words: int) -> Iterator[str]:
    """So many texts of about so many words."""
    for length in rng.poisson(words, n):
        yield " ".join(VOCABULARY[rng.integers(0, len(VOCABULARY), length + 1)])


def write_pool(folder: Path, prompts: int) -> None:
    """What the stages before pair leave: prompts, and each model's responses and scores."""
    rng = np.random.default_rng(0)
    for split, n in (("train", prompts), ("valid", 300)):
        rows = (
            Prompt(id=f"{split}{number}", persona=["I like towers."], turns=["Where is it?"],
                   golden_answer="There.", text=text)
            for number, text in enumerate(texts(rng, n, 150))
        )  # fmt: skip
        write_rows(folder / ARTIFACTS / f"prompts/{split}.jsonl", rows)
    for model in [f"model_{number}" for number in range(MODELS)]:
        valid = rng.random(prompts) < 0.7
        answers = list(texts(rng, prompts, 30))
        values = rng.random((prompts, 4)).round(4).tolist()
        write_rows(
            folder / ARTIFACTS / f"responses/{model}.jsonl",
            (
                Response(
                    id=f"train{number}", model=model, contract="valid" if valid[number] else "none",
                    raw=wrap_response(answer) if valid[number] else answer,
                    answer=answer if valid[number] else None, words=len(answer.split()),
                    seconds=1.0, prompt_tokens=200, completion_tokens=40, finish_reason="stop",
                    served_model=None, system_fingerprint=None, request_key=f"{number:064d}",
                )
                for number, answer in enumerate(answers)
            ),
        )  # fmt: skip
        write_rows(
            folder / ARTIFACTS / f"scores/{model}.jsonl",
            (
                Score(
                    id=f"train{number}", model=model,
                    contract="valid" if valid[number] else "none",
                    answer=answer if valid[number] else None,
                    values=dict(zip(("coh", "c", "ue", "p"), values[number], strict=True))
                    | {"rouge": 0.1, "golden": 0.1, "use": 0.1},
                )
                for number, answer in enumerate(answers)
            ),
        )  # fmt: skip


def pair(folder: Path) -> dict[str, float]:
    """The stage in a process of its own, without what this one holds."""
    seconds, megabytes = run_pair_stage(folder)
    with (folder / ARTIFACTS / "pairs/persodpo.jsonl").open("rb") as file:
        pairs = sum(1 for _ in file)
    return {"pairs": pairs, "seconds": seconds, "MB at its peak": megabytes}


@app.command()
def main(prompts: list[int] = [1_000, 10_000, 50_000]) -> None:  # noqa: B006
    """Write pools, and form their pairs by the settings of params.yaml, at most 4 of a prompt."""
    params = load_params(Path("params.yaml")).model_dump(mode="json")
    params["pool"] = [f"model_{number}" for number in range(MODELS)]
    params["pairing"]["max_per_prompt"] = 4
    rows = []
    for n in prompts:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "params.yaml").write_text(yaml.safe_dump(params))
            write_pool(folder, n)
            size = sum(file.stat().st_size for file in (folder / ARTIFACTS).rglob("*.jsonl"))
            rows.append({"responses": n * MODELS, "MB read": size / 2**20, **pair(folder)})
    typer.echo(pd.DataFrame(rows).to_markdown(index=False, floatfmt=",.0f", intfmt=","))


if __name__ == "__main__":
    app()
