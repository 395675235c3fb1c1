"""The pairs of the paper's released code, by a plain reading of what it does (docs/replication.md).

Shares nothing with the package but the files it reads, so that the two can be compared.
"""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

WEIGHTS = {"Coh-UniEval": 0.14, "C Score": 0.20, "UE Score": 0.18, "Persona Distance": 0.16}
LENGTH_WEIGHT = 0.32


def read_logs(logs: Path) -> pd.DataFrame:
    """All published responses: `row` (of the prompt), `model`, `valid`, `answer`, metrics."""
    tables = []
    for file in sorted((logs / "responses").glob("*.csv")):
        raw = pd.read_csv(file, dtype=str, keep_default_na=False)["gen_response"]
        values = pd.read_csv(logs / "metrics" / file.name)[list(WEIGHTS)]
        parsed = pd.DataFrame([unwrap(text) for text in raw], columns=["valid", "answer"])
        tables.append(parsed.join(values).assign(row=range(len(raw)), model=file.stem))
    return pd.concat(tables, ignore_index=True)


def unwrap(raw: str) -> tuple[bool, str | None]:
    """Whether some shortest block in braces is JSON with a field response; the answer, if any."""
    for block in re.findall(r"\{.*?\}", raw, re.DOTALL):
        try:
            found = json.loads(block)
        except ValueError:
            continue
        if "response" in found:
            return True, str(found["response"]).strip()
    salvaged = re.search(r'"response"\s*:\s*"(.*)', raw, re.DOTALL)
    answer = salvaged.group(1).strip('"\n{} ').rstrip(".").strip() if salvaged else ""
    return False, answer or None


def scored(logs: pd.DataFrame, *, cut_mean: bool = True, rounded: bool = True) -> pd.DataFrame:
    """The responses that have an answer, with their `score`; the code cuts and rounds."""
    answered = logs[logs["answer"].notna()].copy()
    words = answered["answer"].str.split().str.len()
    target = int(words.mean()) if cut_mean else words.mean()
    length = np.maximum(0, 1 - ((words - target) / target) ** 2)
    answered["score"] = LENGTH_WEIGHT * (length.round(3) if rounded else length)
    for column, weight in WEIGHTS.items():
        low, high = answered[column].min(), answered[column].max()
        answered["score"] += weight * (answered[column] - low) / (high - low)
    return answered


Pairs = set[tuple[int, str, str]]


def persodpo_pairs(table: pd.DataFrame, low: float = 0.4, high: float = 0.6) -> Pairs:
    """(row, chosen model, rejected model) of every high and low score of a prompt."""
    bottom, top = np.quantile(table["score"], [low, high])
    return {
        (row, one, two)
        for row, responses in _by_prompt(table).items()
        for one, score, _, text in responses
        for two, lower, _, its_text in responses
        if score >= top and lower <= bottom and score > lower and text != its_text
    }


def dpo_pairs(table: pd.DataFrame) -> Pairs:
    """(row, chosen model, rejected model) of every valid and invalid answer of a prompt."""
    return {
        (row, one, two)
        for row, responses in _by_prompt(table).items()
        for one, _, valid, _ in responses
        for two, _, its_valid, _ in responses
        if valid and not its_valid
    }


def _by_prompt(table: pd.DataFrame) -> dict[int, list[tuple[str, float, bool, str]]]:
    responses: dict[int, list[tuple[str, float, bool, str]]] = {}
    for row, *response in table[["row", "model", "score", "valid", "answer"]].itertuples(
        index=False, name=None
    ):
        responses.setdefault(row, []).append(tuple(response))
    return responses
