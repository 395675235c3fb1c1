"""Checks of the pairs: what a model could learn from them besides what it should.

A pair says that one answer is better. If the chosen ones are also shorter, a model may learn to be
short; if format and length alone decide, it learns nothing about the persona; if a pair's answers
are nearly the same, it learns noise; and if validation dialogues are in the training data, the
results tell nothing.
"""

import re
import sys
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from persodpo.config.pair import PairingParams, PairSet, ScoringParams
from persodpo.errors import UserError
from persodpo.pair.lengths import length_d
from persodpo.pair.pairing import TOLERANCE, strategy_of
from persodpo.records import Prompt

# Two answers are near duplicates if so many of their different word trigrams are the same.
NEAR = 0.8
TRIGRAM = 3
# A validation dialogue is close to the training ones if they hold so many of its word 8-grams.
CLOSE = 0.2
OVERLAP = 8
# The checks of a set of pairs.
CHECKS = (
    "length_d",
    "near_duplicates",
    "conflicting_texts",
    "decided_by_format",
    "decided_by_length",
    "decided_by_both",
)


def ngrams(text: str, n: int) -> frozenset[tuple[str, ...]]:
    """The different runs of n words of a text; of a shorter one, all its words as one run."""
    # of emoji alone, say, all of them are the one word
    words = re.findall(r"\w+", text.lower()) or ["".join(filter(_is_symbol, text))]
    return frozenset(tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1)))


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character).startswith("S")


def check_numbers(
    pairs: pd.DataFrame, table: pd.DataFrame, texts: pd.Series, params: ScoringParams
) -> dict[str, float | None]:
    """What may be wrong with a set of pairs.

    Args:
        pairs: `chosen` and `rejected`, positions in the table.
        table: One row per scored response of the pool.
        texts: What each response looks like in a pair (see `persodpo.pair.pairing.pair_texts`).
        params: The weights of length and format.

    Returns:
        `length_d`, see `persodpo.pair.lengths`. Shares of the pairs: `near_duplicates`, whose two
        answers have nearly the same words; `decided_by_format`, whose rejected answer alone is
        outside the JSON contract, or whose chosen answer would not have the higher score without
        the term of the format; `decided_by_length` and `decided_by_both`, whose chosen answer would
        not have it without the term of the length, or without both. `conflicting_texts`, the share
        of the pairs' prompts with pairs that contradict each other, see there. None of an empty
        set.
    """
    if pairs.empty:
        return dict.fromkeys(CHECKS)
    chosen, rejected = (pairs[side].to_numpy() for side in ("chosen", "rejected"))
    words = table["words"].to_numpy(dtype=float)
    length = params.w1 * table["s_length"].to_numpy(dtype=float)
    form = params.w2 * table["s_format"].to_numpy(dtype=float)
    total = table["s_total"].to_numpy(dtype=float)
    valid = table["valid"].to_numpy(dtype=bool)

    def wins(scores: np.ndarray) -> np.ndarray:
        return np.asarray(scores[chosen] - scores[rejected] > TOLERANCE)

    def decides(term: np.ndarray) -> np.ndarray:
        return np.asarray(wins(total) & ~wins(total - term))

    return {
        "length_d": length_d(words[chosen], words[rejected]),
        "near_duplicates": near_duplicates(_answers(table), chosen, rejected),
        "conflicting_texts": conflicting_texts(table["id"], texts, chosen, rejected),
        "decided_by_format": float(np.mean((valid[chosen] & ~valid[rejected]) | decides(form))),
        "decided_by_length": float(np.mean(decides(length))),
        "decided_by_both": float(np.mean(decides(length + form))),
    }


def _answers(table: pd.DataFrame) -> list[str]:
    """Each response's answer without the format around it, or else the raw text."""
    shown = table["answer"].where(table["answer"].notna(), table["raw"])
    return [text if isinstance(text, str) else "" for text in shown]


def near_duplicates(answers: Sequence[str], chosen: np.ndarray, rejected: np.ndarray) -> float:
    """The share of pairs whose two answers have nearly the same words.

    Of the different word trigrams of both at least four fifths are in both (Jaccard), which in 60
    words leaves room for two other words. An answer of fewer than three words counts as one run, so
    short answers are near only if their words are the same. Case and punctuation don't count.
    """
    # pairs stand by prompts, so that an answer's next pair is near
    runs = lru_cache(maxsize=1024)(lambda place: ngrams(answers[place], TRIGRAM))
    near = [
        len(runs(one) & runs(other)) >= NEAR * len(runs(one) | runs(other))
        for one, other in zip(chosen.tolist(), rejected.tolist(), strict=True)
    ]
    return float(np.mean(near))


def conflicting_texts(
    prompts: pd.Series, texts: pd.Series, chosen: np.ndarray, rejected: np.ndarray
) -> float:
    """The share of the pairs' prompts with pairs that contradict each other.

    No ranking of the prompt's texts agrees with all its pairs: one pair prefers A to B, and another
    one B to A, or their like by way of further texts, or A is preferred to itself. Scores rank the
    responses, so this comes from different responses with the same text, apart from case and white
    space, and different scores. A response that is chosen in one pair and rejected in another, as
    the middle of a ranking is, contradicts nothing.

    Args:
        prompts: The prompt's id of each row of the table.
        texts: What each response looks like in a pair.
        chosen: Rows of the chosen responses, shape (pairs,), at least one.
        rejected: Rows of the rejected ones.
    """
    prompt, _ = pd.factorize(prompts)
    # text by text, since the words of all at once would take many times the memory of the texts
    text, _ = pd.factorize(texts.fillna("").map(lambda each: " ".join(each.casefold().split())))
    node, nodes = pd.factorize(pd.MultiIndex.from_arrays([prompt, text]))
    better, worse = node[chosen], node[rejected]
    graph = coo_array((np.ones(len(better)), (better, worse)), shape=(len(nodes), len(nodes)))
    # texts of which each is preferred to the other are one component
    _, component = connected_components(graph, directed=True, connection="strong")
    conflicting = component[better] == component[worse]
    return float(len(set(prompt[chosen[conflicting]])) / len(set(prompt[chosen])))


class Overlap(NamedTuple):
    """Validation dialogues that are close to the training ones: their share of all, their ids."""

    share: float
    ids: list[str]


def valid_overlap(train: Sequence[Prompt], valid: Sequence[Prompt]) -> Overlap:
    """The validation dialogues that are close to the training ones, in their order.

    Persona sentences don't count: people of both may like castles.
    """
    known = set[tuple[str, ...]]().union(*(_runs(prompt) for prompt in train))
    by_dialogue: dict[str, set[tuple[str, ...]]] = {}
    for prompt in valid:
        by_dialogue.setdefault(prompt.cluster, set()).update(_runs(prompt))
    # a dialogue of short turns alone has no runs, and is close to nothing
    close = [
        id_ for id_, runs in by_dialogue.items() if len(runs & known) >= CLOSE * max(len(runs), 1)
    ]
    return Overlap(len(close) / len(by_dialogue), close)


def _runs(prompt: Prompt) -> set[tuple[str, ...]]:
    """The 8-grams of a prompt's turns and answer; a shorter one, such as a greeting, has none."""
    return {
        run
        for text in (*prompt.turns, prompt.golden_answer)
        for run in ngrams(text, OVERLAP)
        if len(run) == OVERLAP
    }


# What to do about each,
REMEDIES = {
    "length_d": "set or lower pairing.match_length, or set another scoring.length",
    "near_duplicates": "raise pairing.margin, or take models out of the pool that answer alike",
    "conflicting_texts": "raise pairing.margin, or take models out of the pool that answer alike",
    "decided_by_format": "take models into the pool that keep the format, or lower pairing.margin",
    "decided_by_length": "lower scoring.w1",
    "decided_by_both": "lower scoring.w1 and scoring.w2",
}
# and where valid answers are paired with invalid ones, whatever their scores.
REMEDIES_VALID_INVALID = {
    "length_d": "raise generate.max_tokens if long answers are cut and fail; pairing.match_length "
    "works on the set persodpo alone",
    "near_duplicates": "take models out of the pool that answer alike",
    "conflicting_texts": "take models out of the pool that answer alike",
}


def report_excess(
    numbers: Mapping[PairSet, Mapping[str, float | None]],
    overlap: Overlap,
    needed: Collection[str],
    params: PairingParams,
) -> list[str]:
    """Say on standard error which limits are exceeded, or refuse it.

    Args:
        numbers: By pair set, what `check_numbers` gives.
        overlap: What `valid_overlap` gives.
        needed: The pair sets that something is trained on; others aren't checked.
        params: The limits, and the strategy: where valid answers are paired with invalid ones
            whatever their scores, no `decided_by_...` is checked.

    Returns:
        One sentence per exceeded limit.

    Raises:
        UserError: One is exceeded, and `on_excess` is `strict`.
    """
    limits = params.checks.limits()
    sentences = []
    for name, checks in numbers.items():
        by_score = strategy_of(name, params) != "valid_invalid"
        remedies = REMEDIES if by_score else REMEDIES_VALID_INVALID
        for check, value in checks.items():
            checked = name in needed and (by_score or not check.startswith("decided_by_"))
            if checked and _exceeds(value, limits[check]):
                sentences.append(
                    f"The pair set {name} has a {check} of {value:.2f}, beyond "
                    f"pairing.checks.{check} = {limits[check]:g}; {remedies[check]}."
                )
    if _exceeds(overlap.share, limits["valid_overlap"]):
        sentences.append(
            f"The validation dialogues have a valid_overlap of {overlap.share:.2f}, beyond "
            f"pairing.checks.valid_overlap = {limits['valid_overlap']:g}; take these dialogues out "
            f"of one of the two files: {', '.join(overlap.ids[:5])}"
            f"{', ...' if len(overlap.ids) > 5 else ''}."
        )
    if sentences and params.checks.on_excess == "strict":
        raise UserError(f"{' '.join(sentences)} (pairing.checks.on_excess is strict)")
    for sentence in sentences:
        sys.stderr.write(f"{sentence}\n")
    return sentences


def _exceeds(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and abs(value) > limit
