"""Lengths of the two sides of pairs: how far apart they are, and which pairs bring them together.

Words are whole numbers, so their sums are exact in any order. A set that `match_length` gives
therefore keeps its bound to the last digit as `length_d` computes it.
"""

import numpy as np
import pandas as pd

from persodpo.errors import UserError


def length_d(chosen: np.ndarray, rejected: np.ndarray) -> float | None:
    """Cohen's d of the lengths of chosen and rejected answers.

        d = (mean of chosen - mean of rejected) / s
        s = sqrt((variance of chosen + variance of rejected) / 2)

    These are the samples taken as independent, with the pooled standard deviation of two samples
    of one size; variances are divided by pairs - 1 (Cohen, Statistical Power Analysis, 1988,
    section 2.2). Negative where the chosen are shorter.

    Args:
        chosen: Words of the chosen answers, shape (pairs,).
        rejected: Words of the rejected ones, shape (pairs,).

    Returns:
        d; None of fewer than two pairs, or where s is 0.
    """
    if len(chosen) < 2:
        return None
    difference, deviation = _without(chosen, rejected, np.array([], dtype=int))
    return float(difference[0] / deviation[0]) if deviation[0] else None


def match_length(pairs: pd.DataFrame, words: np.ndarray, bound: float) -> pd.DataFrame:
    """Leave out pairs until Cohen's d of the lengths of both sides is at most a bound, either way.

    Only pairs that drive the difference are left out: where the chosen answers are shorter on the
    whole, those whose chosen answer is the shorter one. They go in the order of their margin per
    word of difference, the smallest first, and as few as are enough: the greedy solution of a
    knapsack, which takes the difference away for nearly the least sum of margins. In the order of
    the margin alone many more would go, most of which hardly differ in length; in that of the
    difference alone, many that the scores are surest of. The time is that of one sort.

    Args:
        pairs: What `persodpo.pair.pairing.select_pairs` gives. They are ordered by
            names, so of pairs with the same margin and difference the first by name goes first.
        words: The length of each row of the table, whole numbers.
        bound: The largest d; a set without any spread keeps it if both sides are equally long.

    Returns:
        The pairs that stay, in their order.

    Raises:
        UserError: The bound isn't kept however many such pairs are left out.
    """
    if pairs.empty:
        return pairs
    chosen, rejected = (words[pairs[side].to_numpy()] for side in ("chosen", "rejected"))
    longer = chosen - rejected
    driving = np.flatnonzero(longer * np.sign(longer.sum()) > 0)
    distance = np.abs(longer[driving])
    # of valid_invalid margins may be negative: such a pair is no loss
    price = np.maximum(pairs["margin"].to_numpy(dtype=float)[driving], 0.0) / distance
    order = driving[np.lexsort((-distance, price))][: len(pairs) - 1]

    difference, deviation = np.abs(_without(chosen, rejected, order))
    # without any spread only equal lengths are near enough
    d = np.where(difference == 0, 0.0, np.inf)
    np.divide(difference, deviation, out=d, where=deviation > 0)
    if not np.isfinite(d).any():
        raise UserError(
            f"pairing.match_length is {bound:g}, and the lengths of the {len(pairs)} pairs have no "
            "spread that they could be matched by; set it to null, or form more pairs."
        )
    if not (d <= bound).any():
        raise UserError(
            f"pairing.match_length is {bound:g}, and leaving out pairs brings Cohen's d of the "
            f"lengths of chosen and rejected answers from {d[0]:.2f} to {d.min():.2f} at the "
            "least; raise it, or take models into pool that answer at other lengths."
        )
    n_left_out = int(np.argmax(d <= bound))
    return pairs.drop(index=pairs.index[order[:n_left_out]]).reset_index(drop=True)


def _without(
    chosen: np.ndarray, rejected: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What is left without the first 0, 1, 2, ... pairs of an order, which leaves at least one.

    Returns:
        The difference of both sides' means, and their pooled standard deviation (0 of one pair),
        in words, each of shape (pairs in the order + 1,).
    """

    def sums(values: np.ndarray) -> np.ndarray:
        gone = np.concatenate([[0.0], np.cumsum(values[order], dtype=float)])
        return np.asarray(values.sum(dtype=float) - gone)

    n = len(chosen) - np.arange(len(order) + 1)
    difference = sums(chosen - rejected) / n
    within = sums(chosen**2 + rejected**2) - (sums(chosen) ** 2 + sums(rejected) ** 2) / n
    variance = np.maximum(within, 0.0) / np.maximum(2 * (n - 1), 1)
    return difference, np.sqrt(variance)
