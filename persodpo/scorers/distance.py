"""P, persona distance: how near is the answer's vocabulary to the persona's?

The cosine of the mean word vectors of the joined persona and of the answer, in
[-1, 1], higher for nearer. Tokens are blank-separated and lower-cased, without
NLTK's English stop words and without words that have no vector. Source:
PersoBench (Afzoon et al., arXiv:2410.03198), which uses GoogleNews word2vec; the
embedded default has GloVe 6B 50d (Pennington et al., EMNLP 2014).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persodpo.errors import UserError
from persodpo.models import package_files
from persodpo.records import Prompt
from persodpo.scorers.stopwords import STOP_WORDS

WordVectors = Mapping[str, NDArray[np.float32]]


def load_word_vectors(name: str) -> WordVectors:
    """Load word vectors that ship in a package, as a .npy matrix and a parquet index.

    Raises:
        UserError: The package isn't installed or holds no such vectors.
    """
    if not name.startswith("pypi:"):
        raise UserError(
            f"params.yaml: scorers.word_vectors is {name!r}; it must be pypi:<package>."
        )
    _, files = package_files(name.removeprefix("pypi:"), "scorers.word_vectors")
    matrices = [file for file in files if file.suffix == ".npy"]
    indices = [file for file in files if file.suffix == ".parquet"]
    if len(matrices) != 1 or len(indices) != 1:
        raise UserError(
            f"params.yaml: scorers.word_vectors names {name!r}, a package without one .npy matrix "
            "and one .parquet index."
        )
    words = pd.read_parquet(indices[0])["index"]
    return dict(zip(words, np.load(matrices[0], mmap_mode="r"), strict=True))


def score_distance(
    prompts: Sequence[Prompt], answers: Sequence[str], vectors: WordVectors
) -> NDArray[np.float64]:
    """Score answers by their nearness to their personas.

    Returns:
        Shape (n,), in [-1, 1]; NaN where persona or answer has no known word.
    """

    def mean_vector(text: str) -> NDArray[np.float64]:
        known = [vectors[t] for t in text.lower().split() if t in vectors and t not in STOP_WORDS]
        return np.mean(known, axis=0, dtype=np.float64) if known else np.full(1, np.nan)

    def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        norms = float(np.linalg.norm(a) * np.linalg.norm(b))
        return float(np.clip((a * b).sum() / norms, -1.0, 1.0)) if norms else np.nan

    return np.array(
        [
            cosine(mean_vector(" ".join(prompt.persona)), mean_vector(answer))
            for prompt, answer in zip(prompts, answers, strict=True)
        ],
        dtype=np.float64,
    )
