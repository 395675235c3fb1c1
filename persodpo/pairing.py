"""From scored responses to preference pairs.

Two pair sets:
    persodpo  every two responses to a prompt whose total scores differ by at least
              the margin; the better one is chosen (paper, section 3.3)
    dpo       the paper's baseline: every valid response is chosen over every
              invalid one to the same prompt, whatever their scores

Identical texts are never paired, nor equal scores in persodpo. A side of a pair is the
model's raw text, so that a pair carries the format as well as the content.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from persodpo.errors import UserError
from persodpo.params import PairingParams
from persodpo.records import Prompt, Row

PairSet = Literal["dpo", "persodpo"]
PAIR_SETS: tuple[PairSet, ...] = ("dpo", "persodpo")


class Message(Row):
    """One message of a chat."""

    role: Literal["user", "assistant"]
    content: str


class Pair(Row):
    """A preference pair in TRL's conversational format, with where it comes from.

    Attributes:
        prompt: The user's message.
        chosen: The better answer.
        rejected: The worse answer.
        prompt_id: The prompt's id.
        model_chosen: Key of the model that gave the chosen answer.
        model_rejected: Key of the model that gave the rejected answer.
        score_chosen: S_total of the chosen answer.
        score_rejected: S_total of the rejected answer.
    """

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    prompt_id: str
    model_chosen: str
    model_rejected: str
    score_chosen: float
    score_rejected: float


def make_pairs(
    which: PairSet, table: pd.DataFrame, prompts: Sequence[Prompt], params: PairingParams
) -> list[Pair]:
    """Form one pair set.

    Args:
        which: The pair set.
        table: One row per response with the columns `id`, `model`, `raw`, `valid`
            and `s_total` (see `persodpo.scoring.score_table`).
        prompts: The prompts that were answered.
        params: Margin and cap.

    Returns:
        The pairs, ordered by prompt and models; the order of `table` is irrelevant.

    Raises:
        UserError: No two responses make a pair.
    """
    columns = ["id", "model", "raw", "valid", "s_total"]
    both = table[columns].merge(table[columns], on="id", suffixes=("_chosen", "_rejected"))
    different = both["raw_chosen"] != both["raw_rejected"]
    if which == "dpo":
        kept = both[different & both["valid_chosen"] & ~both["valid_rejected"]]
    else:
        difference = both["s_total_chosen"] - both["s_total_rejected"]
        kept = both[different & (difference > 0) & (difference >= params.margin)]
    kept = kept.sort_values(["id", "model_chosen", "model_rejected"], ignore_index=True)
    if params.max_per_prompt is not None:
        shuffled = kept.sample(frac=1, random_state=params.seed)
        kept = kept.loc[shuffled.groupby("id").head(params.max_per_prompt).index.sort_values()]
    if kept.empty:
        reason = (
            "no prompt has a valid and an invalid response"
            if which == "dpo"
            else f"no two responses differ by pairing.margin = {params.margin}; lower it in "
            "params.yaml"
        )
        raise UserError(f"The pair set {which} would be empty: {reason}.")
    texts = {prompt.id: prompt.text for prompt in prompts}
    return [_pair(row, texts) for row in kept.to_dict("records")]


def _pair(row: Mapping[Any, Any], texts: Mapping[str, str]) -> Pair:
    return Pair.model_validate(
        {
            "prompt": [{"role": "user", "content": texts[row["id"]]}],
            "chosen": [{"role": "assistant", "content": row["raw_chosen"]}],
            "rejected": [{"role": "assistant", "content": row["raw_rejected"]}],
            "prompt_id": row["id"],
            "model_chosen": row["model_chosen"],
            "model_rejected": row["model_rejected"],
            "score_chosen": row["s_total_chosen"],
            "score_rejected": row["s_total_rejected"],
        }
    )


def response_metrics(table: pd.DataFrame, metrics: Iterable[str]) -> dict[str, int]:
    """What the pairs are made of, for `dvc metrics`.

    Args:
        table: One row per response, with the column `valid` and one per metric.
        metrics: The metrics' names.

    Returns:
        The number of `responses`, of `valid` ones, and of `missing_values`: metrics
        that couldn't be computed for a valid response and count as the worst value.
    """
    missing = table.loc[table["valid"], list(metrics)].isna()
    return {
        "responses": len(table),
        "valid": int(table["valid"].sum()),
        "missing_values": int(missing.to_numpy().sum()),
    }


def pair_metrics(pairs: Sequence[Pair]) -> dict[str, float | int]:
    """Headline numbers of a pair set, for `dvc metrics`."""
    margins = pd.Series([pair.score_chosen - pair.score_rejected for pair in pairs])
    return {
        "pairs": len(pairs),
        "prompts": len({pair.prompt_id for pair in pairs}),
        "chosen_models": len({pair.model_chosen for pair in pairs}),
        "rejected_models": len({pair.model_rejected for pair in pairs}),
        "margin_mean": float(margins.mean()),
        "margin_min": float(margins.min()),
    }


def score_distribution(
    table: pd.DataFrame, pairs: Sequence[Pair], n_bins: int = 20
) -> pd.DataFrame:
    """Histogram of total scores: of all responses, and of both sides of the pairs.

    Args:
        table: One row per response, with the column `s_total`.
        pairs: Pairs of these responses; a response counts once per pair it is in.
        n_bins: Bins of equal width over the range of the scores.

    Returns:
        One row per bin: `s_total` (its middle) and the shares `responses`, `chosen`
        and `rejected`, each of which sums to 1.
    """
    values = {
        "responses": table["s_total"],
        "chosen": pd.Series([pair.score_chosen for pair in pairs]),
        "rejected": pd.Series([pair.score_rejected for pair in pairs]),
    }
    edges = np.histogram_bin_edges(table["s_total"], bins=n_bins)
    shares = {
        name: np.histogram(column, bins=edges)[0] / len(column) for name, column in values.items()
    }
    return pd.DataFrame({"s_total": (edges[:-1] + edges[1:]) / 2, **shares})
