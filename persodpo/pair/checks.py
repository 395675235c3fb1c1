"""Checks of the pairs: what a model could learn from them besides what it should.

A pair says that one answer is better. If the chosen ones are also shorter, a model may learn to be
short; if format and length alone decide, it learns nothing about the persona; if a pair's answers
are nearly the same, it learns noise; and if validation dialogues are in the training data, the
results tell nothing.
"""

import re
import sys
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from persodpo.config.pair import ChecksParams, PairSet, ScoringParams
from persodpo.errors import UserError
from persodpo.records import Prompt

# Two answers are near duplicates if so many of their different word trigrams are the same.
NEAR = 0.8
TRIGRAM = 3
# A validation dialogue is close to the training ones if they hold so many of its word 8-grams.
CLOSE = 0.2
OVERLAP = 8


def length_d(chosen: np.ndarray, rejected: np.ndarray) -> float | None:
    """Cohen's d of the lengths of chosen and rejected answers.

    The difference of the means over the pooled standard deviation, as of independent samples
    (Cohen, Statistical Power Analysis, 1988, section 2.2). Negative where the chosen are shorter.

    Args:
        chosen: Words of the chosen answers, shape (pairs,).
        rejected: Words of the rejected ones, shape (pairs,).

    Returns:
        d; None of fewer than two pairs, or where all lengths of a side are equal on both sides.
    """
    if len(chosen) < 2:
        return None
    pooled = ((np.var(chosen, ddof=1) + np.var(rejected, ddof=1)) / 2) ** 0.5
    return float((np.mean(chosen) - np.mean(rejected)) / pooled) if pooled else None


def ngrams(text: str, n: int) -> frozenset[tuple[str, ...]]:
    """The different runs of n words of a text; of a shorter one, all its words as one run."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1)))


def check_numbers(
    pairs: pd.DataFrame, table: pd.DataFrame, params: ScoringParams
) -> dict[str, float | None]:
    """What may be wrong with a set of pairs.

    Args:
        pairs: `chosen` and `rejected`, positions in the table.
        table: One row per scored response of the pool.
        params: The weights of length and format.

    Returns:
        `length_d`, see there. Shares of the pairs: `near_duplicates`, whose two answers have
        nearly the same words; `decided_by_format`, `decided_by_length` and `decided_by_both`,
        whose chosen answer would not have the higher score without that term. `both_sides`, the
        share of the pairs' prompts with an answer that is chosen in one pair and rejected in
        another. None of an empty set.
    """
    if pairs.empty:
        names = ["length_d", "near_duplicates", "decided_by_format", "decided_by_length",
                 "decided_by_both", "both_sides"]  # fmt: skip
        return dict.fromkeys(names)
    chosen, rejected = (pairs[side].to_numpy() for side in ("chosen", "rejected"))
    words = table["words"].to_numpy(dtype=float)
    length = params.w1 * table["s_length"].to_numpy(dtype=float)
    form = params.w2 * table["s_format"].to_numpy(dtype=float)
    total = table["s_total"].to_numpy(dtype=float)

    def undecided(scores: np.ndarray) -> float:
        # what rounding may leave of no difference
        return float((scores[chosen] - scores[rejected] < 1e-9).mean())

    return {
        "length_d": length_d(words[chosen], words[rejected]),
        "near_duplicates": _near_duplicates(_answers(table), chosen, rejected),
        "decided_by_format": undecided(total - form),
        "decided_by_length": undecided(total - length),
        "decided_by_both": undecided(total - length - form),
        "both_sides": _both_sides(_answers(table), table["id"].to_numpy(), chosen, rejected),
    }


def _answers(table: pd.DataFrame) -> list[str]:
    shown = table["answer"].where(table["answer"].notna(), table["raw"])
    return [text if isinstance(text, str) else "" for text in shown]


def _near_duplicates(answers: Sequence[str], chosen: np.ndarray, rejected: np.ndarray) -> float:
    runs = {place: ngrams(answers[place], TRIGRAM) for place in {*chosen, *rejected}}
    near = [
        len(runs[one] & runs[other]) >= NEAR * len(runs[one] | runs[other])
        for one, other in zip(chosen, rejected, strict=True)
    ]
    return float(np.mean(near))


def _both_sides(
    answers: Sequence[str], prompts: np.ndarray, chosen: np.ndarray, rejected: np.ndarray
) -> float:
    texts = [" ".join(text.lower().split()) for text in answers]
    sides = [{(prompts[place], texts[place]) for place in side} for side in (chosen, rejected)]
    return len({prompt for prompt, _ in sides[0] & sides[1]}) / len(set(prompts[chosen]))


def valid_overlap(train: Sequence[Prompt], valid: Sequence[Prompt]) -> float:
    """The share of validation dialogues that are close to the training ones.

    Persona sentences don't count: people of both may like castles.
    """
    known = frozenset[tuple[str, ...]]().union(*(_runs(prompt) for prompt in train))
    # a dialogue of short turns alone has no runs, and is close to nothing
    close = [len(runs & known) >= CLOSE * max(len(runs), 1) for runs in map(_runs, valid)]
    return float(np.mean(close))


def _runs(prompt: Prompt) -> frozenset[tuple[str, ...]]:
    """The 8-grams of a dialogue's turns; a shorter turn, such as a greeting, has none."""
    found: set[tuple[str, ...]] = set()
    for text in (*prompt.turns, prompt.golden_answer):
        found |= {run for run in ngrams(text, OVERLAP) if len(run) == OVERLAP}
    return frozenset(found)


# What to do about each.
REMEDIES = {
    "length_d": "set pairing.match_length, or another scoring.length",
    "near_duplicates": "raise pairing.margin, or take models out of the pool that answer alike",
    "both_sides": "take pairing.strategy best_worst or quantile",
    "decided_by_format": "lower scoring.w2",
    "decided_by_length": "lower scoring.w1",
    "decided_by_both": "lower scoring.w1 and scoring.w2",
    "valid_overlap": "take these dialogues out of one of the two files",
}


def report_excess(
    numbers: Mapping[PairSet, Mapping[str, float | None]],
    overlap: float,
    needed: Collection[str],
    params: ChecksParams,
) -> list[str]:
    """Say on standard error which limits are exceeded, or refuse it.

    Args:
        numbers: By pair set, what `check_numbers` gives.
        overlap: What `valid_overlap` gives.
        needed: The pair sets that something is trained on; others aren't checked.
        params: The limits.

    Returns:
        One sentence per exceeded limit.

    Raises:
        UserError: One is exceeded, and `on_excess` is `strict`.
    """
    limits = params.limits()
    found = [
        _excess(f"The pair set {name}", check, value, limits[check])
        for name, checks in numbers.items()
        for check, value in checks.items()
        if name in needed
    ]
    found.append(
        _excess("The validation dialogues", "valid_overlap", overlap, limits["valid_overlap"])
    )
    sentences = [each for each in found if each is not None]
    if sentences and params.on_excess == "strict":
        raise UserError(f"{' '.join(sentences)} (pairing.checks.on_excess is strict)")
    for sentence in sentences:
        sys.stderr.write(f"{sentence}\n")
    return sentences


def _excess(what: str, check: str, value: float | None, limit: float | None) -> str | None:
    if value is None or limit is None or abs(value) <= limit:
        return None
    verb = "have" if what.endswith("s") else "has"
    return (
        f"{what} {verb} a {check} of {value:.2f}, beyond pairing.checks.{check} = {limit:g}; "
        f"{REMEDIES[check]}."
    )
