"""Natural language inference: does a premise entail a hypothesis, contradict it, or neither?

A small classifier on the sentence embeddings u of the premise and v of the
hypothesis: a multi-layer perceptron on (u, v, |u - v|, u * v), the features of
InferSent (Conneau et al., EMNLP 2017, arXiv:1705.02364). It is trained by
`python -m persodpo.scorers.train_nli_head`; its card is data/nli_head/README.md.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from persodpo.errors import UserError
from persodpo.scorers.encoder import Encoder, Floats

LABELS = ("contradiction", "entailment", "neutral")


def pair_features(premises: Floats, hypotheses: Floats) -> Floats:
    """Features of sentence pairs.

    Args:
        premises: Embeddings, shape (n, d).
        hypotheses: Embeddings, shape (n, d).

    Returns:
        Shape (n, 4 d).
    """
    difference, product = np.abs(premises - hypotheses), premises * hypotheses
    return np.concatenate([premises, hypotheses, difference, product], axis=1, dtype=np.float32)


class NliHead:
    """The trained classifier.

    Args:
        path: Its weights: `hidden.weight` (4 d, h), `hidden.bias` (h), `output.weight`
            (h, 3) and `output.bias` (3), in safetensors; labels in the order of LABELS.
        encode: The encoder it was trained on.

    Raises:
        UserError: The file is missing or isn't such weights.
    """

    def __init__(self, path: str, encode: Encoder) -> None:
        try:
            weights = {
                name: value.astype(np.float32) for name, value in load_file(Path(path)).items()
            }
            self._hidden = (weights["hidden.weight"], weights["hidden.bias"])
            self._output = (weights["output.weight"], weights["output.bias"])
        except (OSError, SafetensorError, KeyError) as error:
            raise UserError(
                f"params.yaml: scorers.nli_head is {path!r}, which doesn't hold the weights of an "
                f"NLI head ({error}); restore it (git checkout) or train it anew "
                "(python -m persodpo.scorers.train_nli_head --help)."
            ) from error
        self._encode = encode
        width = encode(["width"]).shape[1]
        if self._hidden[0].shape[0] != 4 * width:
            raise UserError(
                f"params.yaml: scorers.nli_head {path!r} was trained on embeddings of "
                f"{self._hidden[0].shape[0] // 4} dimensions, but scorers.encoder gives {width}; "
                "train the head anew (python -m persodpo.scorers.train_nli_head --help)."
            )

    def classify(self, premises: Sequence[str], hypotheses: Sequence[str]) -> list[str]:
        """Judge pairs of texts.

        Returns:
            One of LABELS per pair.
        """
        if not premises:
            return []
        features = pair_features(self._encode(premises), self._encode(hypotheses))
        logits: NDArray[np.float32] = self._logits(features)
        return [LABELS[i] for i in logits.argmax(axis=1)]

    def _logits(self, features: Floats) -> Floats:
        hidden = np.maximum(features @ self._hidden[0] + self._hidden[1], 0)
        return np.asarray(hidden @ self._output[0] + self._output[1], dtype=np.float32)
