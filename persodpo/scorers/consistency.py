"""C, consistency: does the answer follow from the persona, or contradict it?

An NLI classifier judges the joined persona sentences (premise) against the
answer (hypothesis): -1 contradiction, 0 neutral, 1 entailment. Source: Madotto
et al., ACL 2019 (arXiv:1905.10033), in PersoBench's form with one judgement on
the joined persona (Afzoon et al., arXiv:2410.03198).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from persodpo.records import Prompt
from persodpo.scorers.nli import NliHead

VALUES = {"contradiction": -1.0, "neutral": 0.0, "entailment": 1.0}


def score_consistency(
    prompts: Sequence[Prompt], answers: Sequence[str], nli: NliHead
) -> NDArray[np.float64]:
    """Score answers against their personas.

    Returns:
        Shape (n,), each -1, 0 or 1.
    """
    labels = nli.classify([" ".join(prompt.persona) for prompt in prompts], answers)
    return np.array([VALUES[label] for label in labels], dtype=np.float64)
