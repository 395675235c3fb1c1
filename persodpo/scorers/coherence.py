"""Coh-MiniLM, coherence: does the answer belong to the last turn?

The cosine of the sentence embeddings of the last turn and the answer, in [0, 1]
(a negative cosine counts as 0). It stands in for the paper's Coh-UniEval (Zhong
et al., EMNLP 2022, arXiv:2210.07197), which needs a T5-large, and is never
reported under UniEval's name.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from persodpo.records import Prompt
from persodpo.scorers.encoder import Encoder


def score_coherence(
    prompts: Sequence[Prompt], answers: Sequence[str], encode: Encoder
) -> NDArray[np.float64]:
    """Score answers by their likeness to the turn they answer.

    Returns:
        Shape (n,), in [0, 1].
    """
    turns = encode([prompt.turns[-1] for prompt in prompts])
    cosines = (turns.astype(np.float64) * encode(answers)).sum(axis=1)
    return np.asarray(np.clip(cosines, 0.0, 1.0), dtype=np.float64)
