"""Measures of collapse: a model that has found one harmless answer for everything.

The metrics of the paper don't see it, since such an answer contradicts no persona and is coherent
with most questions; so these stand beside them in every table.
"""

import re
from collections import Counter
from collections.abc import Sequence


def repeated_share(answers: Sequence[str]) -> float:
    """Share of answers that were given to more than one prompt, in [0, 1]; lower is better.

    A model that has found one harmless answer for everything scores 1. Answers
    that differ in case and white space only are the same.
    """
    counts = Counter(" ".join(answer.lower().split()) for answer in answers)
    return sum(count for count in counts.values() if count > 1) / len(answers)


def distinct(answers: Sequence[str], n: int) -> float | None:
    """Different runs of n words over all answers, as a share of all such runs; higher is better.

    Source: Li et al., NAACL 2016 (arXiv:1510.03055). Words are runs of letters and
    digits, lower-cased. None if no answer has n words.
    """
    runs = [
        tuple(words[i : i + n])
        for words in (re.findall(r"\w+", answer.lower()) for answer in answers)
        for i in range(len(words) - n + 1)
    ]
    return len(set(runs)) / len(runs) if runs else None
