"""Log-probabilities of answers under the reference model, each computed once and kept.

They depend on the base model's weights, its number format and the tokens, not on
scores, weights, margins, beta or the learning rate. So they are kept under the
cache folder from one method and experiment to the next.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diskcache import Cache
from tqdm import tqdm
from transformers import PreTrainedModel
from trl.trainer.utils import hash_module

from persodpo.training.collator import SharedPromptCollator
from persodpo.training.loss import shared_prompt_logps


def reference_logps(
    model: PreTrainedModel,
    rows: Sequence[dict[str, Any]],
    collator: SharedPromptCollator,
    folder: Path,
) -> list[list[float]]:
    """Look up or compute the log-probability of every answer.

    Args:
        model: The reference model, without an adapter.
        rows: Tokenised rows of the training set.
        collator: Lays a row out for the model.
        folder: Where the values are kept; safe for several processes at once.

    Returns:
        Per row, one value per answer, in nats.
    """
    base = f"{hash_module(model)} {model.dtype}"
    model.eval()
    with Cache(str(folder)) as cache, torch.no_grad():
        for row in tqdm(rows, desc="Reference log-probabilities", unit="prompt"):
            keys = _keys(base, row)
            if any(key not in cache for key in keys):
                batch = collator([row])
                on_device = {name: value.to(model.device) for name, value in batch.items()}
                values = shared_prompt_logps(model, on_device).tolist()
                with cache.transact():
                    for key, value in zip(keys, values, strict=True):
                        cache[key] = value
        return [[cache[key] for key in _keys(base, row)] for row in rows]


def _keys(base: str, row: dict[str, Any]) -> list[str]:
    return [
        hashlib.sha256(json.dumps([base, row["prompt_ids"], answer]).encode()).hexdigest()
        for answer in row["answer_ids"]
    ]
