"""The weight of a pair in the loss (paper, equation (2))."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit


def pair_weights(
    difference: Sequence[float] | np.ndarray, temperature: float, normalisation: str
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The weight of each pair in the loss: sigmoid(difference / temperature).

    It is the factor sigma(S_chosen - S_rejected) of the paper's equation (2).

    Args:
        difference: S_chosen - S_rejected of all pairs of the training set, shape (n,).
        temperature: 1 is the equation's; a smaller one spreads the weights.
        normalisation: `none`, or `mean_one` to scale all weights to a mean of 1.

    Returns:
        Shape (n,), each from 0 to 1 before the normalisation.
    """
    weights: np.ndarray[tuple[int], np.dtype[np.float64]] = expit(
        np.asarray(difference, dtype=np.float64) / temperature
    )
    return weights / weights.mean() if normalisation == "mean_one" else weights
