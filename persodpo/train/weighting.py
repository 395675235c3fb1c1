"""The weight of each pair in the loss, or the offset in its place."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import expit

from persodpo.config.train import PairMethod
from persodpo.errors import UserError
from persodpo.train.rows import TokenisedRow


def pair_weights(
    difference: Sequence[float] | np.ndarray, temperature: float, normalisation: str
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The weight of each pair in the loss: sigmoid(difference / temperature).

    At 1 it is the factor sigma(S_chosen - S_rejected) of the paper's equation (2), where larger
    differences weigh more. Below 0 smaller ones do, the direction for which MADPO argues
    (arXiv:2510.05342), whose own weights are functions of a reward model's margins.

    Args:
        difference: S_chosen - S_rejected of all pairs of the training set, shape (n,).
        temperature: Not 0; one nearer to 0 spreads the weights.
        normalisation: `none`, or `mean_one` to scale all weights to a mean of 1.

    Returns:
        Shape (n,), each from 0 to 1 before the normalisation.
    """
    weights: np.ndarray[tuple[int], np.dtype[np.float64]] = expit(
        np.asarray(difference, dtype=np.float64) / temperature
    )
    if normalisation == "mean_one" and weights.any():
        weights /= weights.mean()
    return weights


def weigh(rows: Sequence[TokenisedRow], method: PairMethod) -> list[TokenisedRow]:
    """Give each pair its weight and its offset.

    `score` weighs by `pair_weights`, normalised over all pairs; `margin_offset` leaves the weights
    at 1 and takes difference / temperature as offset in the loss (ODPO, arXiv:2402.10571, with the
    identity in the place of its logarithm).

    Raises:
        UserError: All weights are 0, or none is a number.
    """
    differences = np.array([pair.difference for row in rows for pair in row.pairs])
    weights, offsets = np.ones(len(differences)), np.zeros(len(differences))
    if method.weight == "score":
        weights = pair_weights(differences, method.weight_temperature, method.weight_normalisation)
        if not (np.isfinite(weights).all() and weights.any()):
            raise UserError(
                f"params.yaml: the weight_temperature {method.weight_temperature:g} of "
                "train.methods leaves no pair a weight; take one further from 0."
            )
    elif method.weight == "margin_offset":
        offsets = differences / method.weight_temperature
    weight, offset = iter(weights.tolist()), iter(offsets.tolist())
    return [
        replace(
            row,
            pairs=tuple(
                replace(pair, weight=next(weight), offset=next(offset)) for pair in row.pairs
            ),
        )
        for row in rows
    ]
