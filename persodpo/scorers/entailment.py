"""UE, utterance entailment: is the answer entailed by the persona, and by the reference?

One point if the persona entails the answer, and a second if the reference
entails it too, so the score is 0, 1 or 2. Source: PersoBench's code (Afzoon et
al., arXiv:2410.03198).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from persodpo.records import Prompt
from persodpo.scorers.nli import NliHead


def score_entailment(
    prompts: Sequence[Prompt], answers: Sequence[str], nli: NliHead
) -> NDArray[np.float64]:
    """Score answers by what entails them.

    Returns:
        Shape (n,), each 0, 1 or 2.
    """
    by_persona, by_reference = (
        np.array([label == "entailment" for label in nli.classify(premises, answers)], dtype=bool)
        for premises in (
            [" ".join(prompt.persona) for prompt in prompts],
            [prompt.reference for prompt in prompts],
        )
    )
    points = by_persona.astype(np.float64) + (by_persona & by_reference)
    return np.asarray(points, dtype=np.float64)
