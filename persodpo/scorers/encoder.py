"""Sentence embeddings, computed once per different text."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from persodpo.models import device, locate

Floats = NDArray[np.float32]
# From n texts to their embeddings, shape (n, dimensions), each of length 1.
Encoder = Callable[[Sequence[str]], Floats]


def load_encoder(name: str, revision: str | None, batch_size: int) -> Encoder:
    """Load a sentence-transformers model, in float32.

    Args:
        name: Where it is (see `persodpo.models`).
        revision: The commit of a Hugging Face id, else None.
        batch_size: Texts per pass; it doesn't change the embeddings beyond rounding.

    Raises:
        UserError: The model can't be found.
    """
    model = SentenceTransformer(
        locate(name, revision, "scorers.encoder"),
        revision=revision,
        trust_remote_code=False,
        device=str(device()),
        model_kwargs={"dtype": torch.float32, "use_safetensors": True},
    )
    known: dict[str, Floats] = {}

    def encode(texts: Sequence[str]) -> Floats:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            embeddings = model.encode(
                new,
                batch_size=batch_size,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
            known.update(zip(new, embeddings, strict=True))
        width = model.get_embedding_dimension()
        return (
            np.stack([known[text] for text in texts]) if texts else np.zeros((0, width), np.float32)
        )

    return encode
