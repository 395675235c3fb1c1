"""From scored responses to preference pairs.

Two pair sets:
    persodpo  formed by the strategy of params.yaml, and shown as it says there
    dpo       the paper's baseline, always by valid_invalid, of raw texts

and four strategies:
    margin         every two responses to a prompt whose total scores differ by at least
                   the margin; the better one is chosen (paper, section 3.1, which names no figure)
    best_worst     of these, the one pair of each prompt whose scores differ most
    quantile       a score in the pool's high quantile is chosen over one in the low
                   quantile to the same prompt (the paper's code: 0.6 and 0.4)
    valid_invalid  every valid response is chosen over every invalid one to the same
                   prompt, whatever their scores

Of the set persodpo pairs can be left out until both sides are alike in length (`match_length`).

Equal texts are never paired, nor, but by valid_invalid, equal scores, and a response
without an answer is never chosen. Scores are compared to within 1e-9. The order of the
responses is irrelevant, and a prompt's pairs depend on other prompts' only through the
pool's quantiles and what was fitted on the pool (see `persodpo.pair.scoring`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from persodpo.config.pair import PairingParams, PairSet, Strategy
from persodpo.errors import UserError
from persodpo.pair.lengths import match_length
from persodpo.prompts import wrap_response
from persodpo.records import Demonstration, Message, Pair, Prompt

# What rounding may add to or take from a difference of scores.
TOLERANCE = 1e-9
# The responses of so many pairs are objects at once.
AT_ONCE = 1_000
PAIR_SETS: tuple[PairSet, ...] = ("dpo", "persodpo")


def form_pair_sets(
    table: pd.DataFrame, params: PairingParams, needed: Collection[str]
) -> dict[PairSet, pd.DataFrame]:
    """Form all pair sets of a pool.

    Args:
        table: One row per scored response: `id`, `model`, `sample`, `raw`, `answer`, `valid`,
            `s_total`.
        params: The strategy of the set persodpo, and what all sets share.
        needed: The sets that something is trained on.

    Returns:
        What `select_pairs` gives, per set.

    Raises:
        UserError: A set that is needed is empty; the message says why. Or `match_length` can't be
            kept (see `persodpo.pair.lengths`).
    """
    sets = {}
    for which in PAIR_SETS:
        strategy = strategy_of(which, params)
        shown = table.assign(text=pair_texts(which, table, params))
        pairs = select_pairs(shown, strategy, params)
        if which == "persodpo" and which in needed and params.match_length is not None:
            words = table["words"].to_numpy(dtype=float)
            pairs = match_length(pairs, words, params.match_length)
        sets[which] = pairs
        if which in needed and sets[which].empty:
            reason = _why_empty(strategy, shown, params)
            raise UserError(f"The pair set {which} would be empty: {reason}.")
    return sets


def strategy_of(which: PairSet, params: PairingParams) -> Strategy:
    """How a pair set is formed."""
    return "valid_invalid" if which == "dpo" else params.strategy


def pair_texts(which: PairSet, table: pd.DataFrame, params: PairingParams) -> pd.Series:
    """What each response looks like in a pair; missing where it is in none.

    Args:
        which: The pair set.
        table: One row per response, with `raw` and `answer`.
        params: `text` says what pairs of persodpo show, `unanswered` whether a response
            without an answer can be in a pair; re-wrapped it never can.
    """
    if which == "persodpo" and params.text == "rewrapped":
        return table["answer"].map(wrap_response, na_action="ignore")
    return (
        table["raw"] if params.unanswered == "keep" else table["raw"].where(table["answer"].notna())
    )


def select_pairs(table: pd.DataFrame, strategy: Strategy, params: PairingParams) -> pd.DataFrame:
    """Form pairs of the responses of a pool.

    Time and memory grow with the number of candidate pairs within prompts, never with
    the square of the pool.

    Args:
        table: One row per response, with unique (`id`, `model`, `sample`) and the columns `valid`,
            `answer`, `s_total` and `text` (see `pair_texts`). Responses without a text are left
            out, of the quantiles, too.
        strategy: Who may be paired with whom.
        params: Margin, quantiles and cap.

    Returns:
        One row per pair, ordered by prompt, models and samples: `chosen` and `rejected`, positions
        of rows of the table, and `margin`, S_chosen - S_rejected. Empty if there are none.
    """
    score = table["s_total"].to_numpy(dtype=float)
    chosen, rejected = _candidates(table, score, strategy, params)
    prompt, prompts = pd.factorize(table["id"], sort=True)
    text, _ = pd.factorize(table["text"])
    sides = [
        pd.DataFrame({"prompt": prompt[mask], name: np.flatnonzero(mask)})
        for name, mask in (("chosen", chosen), ("rejected", rejected))
    ]
    pairs = sides[0].merge(sides[1], on="prompt")
    better, worse = pairs["chosen"].to_numpy(), pairs["rejected"].to_numpy()
    margin = score[better] - score[worse]
    selected = text[better] != text[worse]
    if strategy != "valid_invalid":
        selected &= (margin > TOLERANCE) & (margin >= params.margin - TOLERANCE)
    pairs = pairs.assign(margin=margin)[selected]
    source, sources = pd.factorize(_sources(table), sort=True)
    pairs["source_chosen"] = source[pairs["chosen"]]
    pairs["source_rejected"] = source[pairs["rejected"]]
    order = ["prompt", "source_chosen", "source_rejected"]
    if strategy == "best_worst":
        pairs = pairs.sort_values(["margin", *order], ascending=[False, True, True, True])
        pairs = pairs.groupby("prompt").head(1)
    elif params.max_per_prompt is not None:
        first = -pairs["margin"]
        if params.cap == "random":
            first = _draw(pairs, prompts, sources, params.seed)
        pairs = pairs.assign(first=first).sort_values(["first", *order])
        pairs = pairs.groupby("prompt").head(params.max_per_prompt)
    columns = ["chosen", "rejected", "margin"]
    return pd.DataFrame(pairs.sort_values(order, ignore_index=True), columns=columns)


def _candidates(
    table: pd.DataFrame, score: np.ndarray, strategy: Strategy, params: PairingParams
) -> tuple[np.ndarray, np.ndarray]:
    """Which responses may be chosen, and which rejected, whomever they are paired with."""
    shown = table["text"].notna().to_numpy()
    answered = shown & table["answer"].notna().to_numpy()
    if strategy == "valid_invalid":
        valid = table["valid"].to_numpy(dtype=bool)
        return shown & valid, shown & ~valid
    if strategy == "quantile" and shown.any():
        low, high = np.quantile(score[shown], [params.low_quantile, params.high_quantile])
        return answered & (score >= high), shown & (score <= low)
    return answered, shown


def _sources(table: pd.DataFrame) -> pd.Series:
    """Who gave each response: the model, and behind a mark that no key has a later sample."""
    later = "#" + table["sample"].astype(str)
    return table["model"] + later.where(table["sample"] > 0, "")


def _draw(pairs: pd.DataFrame, prompts: pd.Index, sources: pd.Index, seed: int) -> pd.Series:
    """A pseudo-random number for each pair that other pairs don't change."""
    names = pd.DataFrame(
        {
            "prompt": pd.Categorical.from_codes(pairs["prompt"], prompts),
            "chosen": pd.Categorical.from_codes(pairs["source_chosen"], sources),
            "rejected": pd.Categorical.from_codes(pairs["source_rejected"], sources),
        },
        index=pairs.index,
    )
    return pd.util.hash_pandas_object(names, index=False, hash_key=f"{seed:016d}")


def _why_empty(strategy: Strategy, table: pd.DataFrame, params: PairingParams) -> str:
    shown = table[table["text"].notna()]
    by_prompt = shown.groupby("id")
    if not (by_prompt.size() > 1).any():
        return "no prompt has two responses that can be shown; name more models in pool"
    if not (by_prompt["text"].nunique() > 1).any():
        return "all responses to a prompt have the same text; name other models in pool"
    if not shown["valid"].any():
        return (
            "no response of the pool keeps the format; raise generate.max_tokens if answers are "
            "cut, train the model that answers longer, or name other models in pool"
        )
    if strategy == "valid_invalid":
        return (
            "no prompt has a valid and an invalid response with different texts; add a model that "
            "fails now and then to pool, or train no method on this set (train.methods)"
        )
    if (by_prompt["s_total"].max() - by_prompt["s_total"].min()).max() <= TOLERANCE:
        return (
            "all responses to a prompt have the same total score; look at the weights in scoring "
            "and at the files in artifacts/scores"
        )
    if strategy == "quantile":
        return (
            "no prompt has responses from both ends of the pool's scores (pairing.low_quantile = "
            f"{params.low_quantile:g}, pairing.high_quantile = {params.high_quantile:g}) that "
            f"differ by pairing.margin = {params.margin:g}; bring the quantiles together or lower "
            "the margin"
        )
    return (
        f"no two different responses to a prompt, the better one with an answer, differ by "
        f"pairing.margin = {params.margin:g}; "
        f"{'lower it in params.yaml' if params.margin else 'name other models in pool'}"
    )


def pair_rows(
    pairs: pd.DataFrame, table: pd.DataFrame, texts: pd.Series, prompts: Sequence[Prompt]
) -> Iterator[Pair]:
    """The rows of a pair file, one at a time.

    Args:
        pairs: What `select_pairs` gave.
        table: What they were selected from.
        texts: What each response looks like (see `pair_texts`).
        prompts: The prompts that were answered.
    """
    asked = {prompt.id: prompt.text for prompt in prompts}
    shown = table[["id", "model", "sample", "s_total"]].assign(text=texts, cut=table["cut"])
    shown["cut"] &= texts == table["raw"]  # what is put into the format anew is whole
    for start in range(0, len(pairs), AT_ONCE):
        some = pairs.iloc[start : start + AT_ONCE]
        sides = [shown.iloc[some[side]].to_dict("records") for side in ("chosen", "rejected")]
        for chosen, rejected in zip(*sides, strict=True):
            yield _pair(chosen, rejected, asked)


def _pair(chosen: Mapping[Any, Any], rejected: Mapping[Any, Any], asked: Mapping[str, str]) -> Pair:
    return Pair(
        prompt=[Message(role="user", content=asked[chosen["id"]])],
        chosen=[Message(role="assistant", content=chosen["text"])],
        rejected=[Message(role="assistant", content=rejected["text"])],
        prompt_id=chosen["id"],
        model_chosen=chosen["model"],
        sample_chosen=chosen["sample"],
        model_rejected=rejected["model"],
        sample_rejected=rejected["sample"],
        score_chosen=chosen["s_total"],
        score_rejected=rejected["s_total"],
        cut_chosen=chosen["cut"],
        cut_rejected=rejected["cut"],
    )


def best_answers(table: pd.DataFrame, prompts: Sequence[Prompt]) -> list[Demonstration]:
    """Each prompt with the valid answer of the highest total score, put into the format anew.

    Of equal ones the first in the table. A prompt without a valid answer is left out.

    Args:
        table: One row per scored response.
        prompts: The prompts that were answered.
    """
    valid = table[table["valid"]].sort_values("s_total", ascending=False, kind="stable")
    best = valid.groupby("id", sort=False).head(1).set_index("id")["answer"]
    return [
        Demonstration(
            prompt=[Message(role="user", content=prompt.text)],
            completion=[Message(role="assistant", content=wrap_response(best[prompt.id]))],
            prompt_id=prompt.id,
            cut=False,
        )
        for prompt in prompts
        if prompt.id in best.index
    ]
