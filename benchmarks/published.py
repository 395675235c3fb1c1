"""What the paper's authors published: prompts, responses and metric values, for the benchmarks.

They lie in ../shared/focus_logs, or in the folder that FOCUS_LOGS names: a clone of the
authors' repository has them, and this repository doesn't.
"""

import os
import sys
from pathlib import Path

import pandas as pd

from persodpo.prompts import parse_response, render_prompt
from persodpo.records import Prompt
from persodpo.sample.readers import read_dialogues

FOCUS_LOGS = Path(os.environ.get("FOCUS_LOGS", "../shared/focus_logs"))
METRICS = {"coh": "Coh-UniEval", "c": "C Score", "ue": "UE Score", "p": "Persona Distance"}


def need(path: Path) -> Path:
    """End with one sentence if published data isn't there."""
    if not path.exists():
        sys.exit(f"{path} isn't there; this benchmark measures on published data (see its --help).")
    return path


def prompts(split: str, n: int | None = None, joined: bool = True) -> list[Prompt]:
    """The first n prompts of train or valid, in this project's words.

    Joined, the persona is one text as it was published, whose sentences lost the blanks between
    them; so P sees the tokens that the published values were computed from. Else it is sentences.
    """
    return [
        Prompt(
            id=dialogue.id,
            persona=["".join(dialogue.persona)] if joined else [*dialogue.persona],
            turns=list(dialogue.turns),
            golden_answer=dialogue.golden_answer,
            text=render_prompt(dialogue.persona, dialogue.turns, 110),
        )
        for dialogue in read_dialogues(need(FOCUS_LOGS / f"prompts/{split}.csv"))[:n]
    ]


def models() -> list[str]:
    """The models whose responses to the training prompts are published."""
    return sorted(file.stem for file in need(FOCUS_LOGS / "metrics").glob("*.csv"))


def scored_responses(model: str) -> pd.DataFrame:
    """A model's valid responses with their published values.

    Returns:
        One row per valid response (after the released code's rule): `prompt`, the row of
        its training prompt, `answer`, and the columns coh, c, ue, p.
    """
    responses = pd.read_csv(FOCUS_LOGS / f"responses/{model}.csv", dtype=str).fillna("")
    values = pd.read_csv(FOCUS_LOGS / f"metrics/{model}.csv")
    parsed = [parse_response(raw, "released") for raw in responses["gen_response"]]
    table = pd.DataFrame(
        {
            "prompt": range(len(parsed)),
            "answer": [one.answer for one in parsed],
            **{key: values[column] for key, column in METRICS.items()},
        }
    )
    return table[[one.contract == "valid" for one in parsed]].reset_index(drop=True)
