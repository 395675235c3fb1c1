"""The cosine of two texts' sentence embeddings, each text embedded once."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from persodpo.models import device, locate
from persodpo.scorers.metric import Judgement, Texts

VERSION = 1


class EmbeddingJudge:
    """A loaded sentence-transformers model, in float32.

    Args:
        name: Where it is (see `persodpo.models`).
        revision: The commit of a Hugging Face id, else None.
        batch_size: Texts per pass; it doesn't change the embeddings beyond rounding.
        key: The parameter that holds the name, for messages.

    Raises:
        UserError: The model can't be found.
    """

    def __init__(self, name: str, revision: str | None, batch_size: int, key: str) -> None:
        self._model = SentenceTransformer(
            locate(name, revision, key),
            revision=revision,
            trust_remote_code=False,
            device=str(device()),
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
        self._batch_size = batch_size

    def __call__(self, pairs: Sequence[Texts]) -> Iterator[list[tuple[Texts, Judgement]]]:
        """Compare pairs of texts.

        Yields:
            All pairs at once, each with its cosine, in [-1, 1].
        """
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        embeddings = self._model.encode(
            texts,
            batch_size=self._batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        of = dict(zip(texts, embeddings.astype(np.float64), strict=True))
        yield [((one, two), [float(np.clip(of[one] @ of[two], -1, 1))]) for one, two in pairs]
