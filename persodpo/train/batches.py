"""Which prompts are held out, which share a step of the optimiser, and which a pass.

A prompt's pairs always stay together, since they share its computation. So a step of so
many pairs is one of about so many.
"""

import math
from collections.abc import Sequence

import numpy as np

from persodpo.errors import UserError
from persodpo.train.rows import TokenisedRow, TrainingRow


def split(
    rows: Sequence[TrainingRow], held_out: float, seed: int
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Draw prompts, with all their pairs, that the training doesn't see.

    Args:
        rows: Rows of the training set.
        held_out: Their share; of any share above 0 at least one prompt.
        seed: Of the draw.

    Returns:
        The rows for the training, and those held out.

    Raises:
        UserError: Nothing would be left for the training.
    """
    n = max(1, round(held_out * len(rows))) if held_out else 0
    if n >= len(rows):
        raise UserError(
            f"params.yaml: train.held_out = {held_out:g} takes all of the {len(rows)} prompts "
            "with pairs; lower it, or sample more."
        )
    drawn = set(np.random.default_rng(seed).permutation(len(rows))[:n].tolist())
    return (
        [row for number, row in enumerate(rows) if number not in drawn],
        [row for number, row in enumerate(rows) if number in drawn],
    )


def plan_passes(
    rows: Sequence[TokenisedRow],
    unit: str,
    size: int,
    passes: int,
    epochs: float,
    seed: int,
) -> list[list[int]]:
    """Draw the whole training's passes beforehand; a pure function of its arguments.

    Each epoch is a permutation of the prompts, cut into steps of about the same number
    of prompts or pairs; a fraction of an epoch takes its first steps. Each step is cut
    into passes of about the same number of tokens.

    Args:
        rows: The prompts that are trained on.
        unit: What `size` counts: `prompts` or `pairs`.
        size: So many make a step, as nearly as steps of the same size can have.
        passes: So many passes make a step. Some are empty where a step has fewer prompts.
        epochs: So many times every prompt is seen.
        seed: Of the permutations.

    Returns:
        Indices of prompts, one list per pass, step after step.
    """
    counts = np.array([1 if unit == "prompts" else len(row.pairs) for row in rows])
    tokens = [row.n_tokens for row in rows]
    n_steps = steps_per_epoch(rows, unit, size)
    plan: list[list[int]] = []
    for epoch in range(math.ceil(epochs)):
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        for step in _cut(order, counts[order], n_steps):
            plan += _balance(step, tokens, passes)
    return plan[: max(1, round(epochs * n_steps)) * passes]


def steps_per_epoch(rows: Sequence[TokenisedRow], unit: str, size: int) -> int:
    """How many steps of the optimiser see every prompt once; see `plan_passes`."""
    total = len(rows) if unit == "prompts" else sum(len(row.pairs) for row in rows)
    return min(math.ceil(total / size), len(rows))


def _cut(order: np.ndarray, counts: np.ndarray, n_steps: int) -> list[list[int]]:
    """Cut prompts into steps of about equal counts, none empty."""
    total = np.cumsum(counts)
    cuts = [0]
    for step in range(1, n_steps):
        wanted = int(np.searchsorted(total, total[-1] * step / n_steps - 0.5)) + 1
        cuts.append(min(max(wanted, cuts[-1] + 1), len(order) - (n_steps - step)))
    return [list(map(int, part)) for part in np.split(order, cuts[1:])]


def _balance(step: Sequence[int], tokens: Sequence[int], passes: int) -> list[list[int]]:
    """Share a step's prompts among passes: the longest first, each to the emptiest pass."""
    shares: list[list[int]] = [[] for _ in range(passes)]
    for prompt in sorted(step, key=lambda each: -tokens[each]):
        min(shares, key=lambda share: sum(tokens[each] for each in share)).append(prompt)
    return shares
