"""Logs of random content in the shape of those that the paper's authors published."""

import random
from pathlib import Path

import pandas as pd

MODELS = [
    "Llama3-1-8B-Instruct", "Mistral-7B-Instruct", "Qwen2-5B-Instruct", "Qwen2-7B-Instruct",
    "gpt-3.5-turbo", "gpt-4-turbo", "gpt-4o-mini",
]  # fmt: skip
COLUMNS = ["Coh-UniEval", "C Score", "UE Score", "Persona Distance"]


def write_logs(folder: Path, n: int = 1500, n_valid: int = 1000) -> None:
    """Write them under the names they have in ../shared/focus_logs; the last prompt is in both."""
    rng = random.Random(0)
    prompts = [_prompt(i) for i in range(n)]
    others = [_prompt(n + i) for i in range(n_valid - 1)]
    for split, rows in (("train", prompts), ("valid", [*others, prompts[-1]])):
        _write(folder / f"prompts/{split}.csv", rows)
    for model in MODELS:
        raw = [_response(rng) for _ in range(n)]
        responses = [{"gen_response": text, "response_time": rng.random()} for text in raw]
        _write(folder / f"responses/{model}.csv", responses)
        values = [_values(rng) if text.endswith("}") else [0.0, -1, 0, 0.0] for text in raw]
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in values]
        _write(folder / f"metrics/{model}.csv", rows)


def as_the_authors(folder: Path, target: Path) -> None:
    """Write the same logs under the names of the authors' repository."""
    names = {"train": "FoCus-train", "valid": "FoCus-valid"}
    for file in sorted(folder.glob("*/*.csv")):
        table = pd.read_csv(file)
        match file.parent.name:
            case "prompts":
                path = target / f"Prompts/{names[file.stem]}.csv"
            case "responses":
                path = target / f"Raw Responses/FoCus/{file.stem}-train.csv"
            case _:
                path = target / f"Metrics Results/FoCus/{file.stem}-train-results.xlsx"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".xlsx":
            table.to_excel(path, index=False)
        else:
            table.to_csv(path, index=False)


def _prompt(i: int) -> dict[str, str]:
    return {
        "personas": f"I have {i} cats.I live in the U.S.A.I like forts,I sail.I dont ski.",
        "context": f"User1: Where is fort {i}?\nUser2: In Rome.\nUser1: How old?",
        "act_response": "User2: It is old.",
    }


def _response(rng: random.Random) -> str:
    words = " ".join(rng.choices(["a", "fort", "in", "Rome", "is", "old"], k=rng.randint(5, 95)))
    kind = rng.random()
    if kind < 0.6:
        return f'So:\n{{"response": "{words}"}}'
    if kind < 0.7:  # every block in braces is looked at, not the first alone
        return f'{{"user": "x"}} {{no}} {{"response": "{words}", "mood": 1}} {{"response": "b"}}'
    return f'{{"response": "{words}' if kind < 0.98 else "no."


def _values(rng: random.Random) -> list[float]:
    return [rng.random(), rng.choice([-1, 0, 1]), rng.choice([0, 1, 2]), rng.uniform(-0.1, 0.9)]


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)
