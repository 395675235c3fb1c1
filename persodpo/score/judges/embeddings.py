"""The cosine of two texts' sentence embeddings, each text embedded once."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from persodpo.score.judges.checkpoints import load_encoder
from persodpo.score.metric import Judgement, Texts

# So many batches are sorted by length together, and kept together.
BATCHES = 32
# sentence-transformers counts texts, not tokens.
TEXT_TOKENS = 128


class EmbeddingJudge:
    """A loaded sentence-transformers model, in float32.

    Args:
        name: Where it is (see `persodpo.models.locations`).
        revision: The commit of a Hugging Face id, else None.
        batch_tokens: Tokens per pass, if texts have TEXT_TOKENS; it doesn't change the
            embeddings beyond rounding.
        key: The parameter that holds the name, for messages.

    Raises:
        UserError: The model can't be found.
    """

    def __init__(self, name: str, revision: str | None, batch_tokens: int, key: str) -> None:
        self._model = load_encoder(name, revision, key)
        self._batch_size = max(batch_tokens // TEXT_TOKENS, 1)

    def __call__(self, pairs: Sequence[Texts]) -> Iterator[list[tuple[Texts, Judgement]]]:
        """Compare pairs of texts.

        Yields:
            Some batches' worth of pairs, each with its cosine, in [-1, 1].
        """
        of: dict[str, NDArray[np.float64]] = {}
        for start in range(0, len(pairs), BATCHES * self._batch_size):
            part = pairs[start : start + BATCHES * self._batch_size]
            texts = dict.fromkeys(text for pair in part for text in pair)
            new = [text for text in texts if text not in of]
            if new:
                of.update(zip(new, self._embedded(new), strict=True))
            yield [((one, two), [float(np.clip(of[one] @ of[two], -1, 1))]) for one, two in part]

    def _embedded(self, texts: list[str]) -> NDArray[np.float64]:
        embeddings = self._model.encode(
            texts,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(embeddings, dtype=np.float64)
