"""What the scorers share: what a metric's values mean, and what a judge is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# The texts that are judged together, such as a premise and a hypothesis.
Texts = tuple[str, ...]
# What a judge says of them, such as three probabilities; None if it can't tell.
Judgement = list[float] | None
# From n inputs to n judgements, in their order.
Judge = Callable[[Sequence[Texts]], list[Judgement]]
# One value per answer; None where the metric can't be computed.
Values = list[float | None]


@dataclass(frozen=True)
class Metric:
    """What the values of a metric mean.

    Attributes:
        label: Its name in tables.
        low: The lowest value it can have.
        high: The highest value it can have.
        worst: What a failed response gets (as in PersoBench's code and the paper's).
        version: Counts the changes of its definition here that change values.
        higher_is_better: Which end of the range is the good one.
        lowest_published: The lowest value that published values may have, if that is below `low`,
            as which it then counts.
    """

    label: str
    low: float
    high: float
    worst: float
    version: int
    higher_is_better: bool = True
    lowest_published: float | None = None
