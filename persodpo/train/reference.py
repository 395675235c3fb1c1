"""Log-probabilities of answers under the reference model, each computed once and kept.

They depend on the base model, its number format, the layout and the tokens, not on scores,
weights, margins, beta or the learning rate. So they are kept under the cache folder
from one method and experiment to the next, and the policy is trained without a second
model in memory.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedModel

from persodpo import processes
from persodpo.train.collator import PromptCollator
from persodpo.train.loss import answer_logps
from persodpo.value_cache import open_value_cache


def reference_logps(
    model: PreTrainedModel,
    identity: Mapping[str, Any],
    rows: Sequence[dict[str, Any]],
    collator: PromptCollator,
    folder: Path,
) -> list[list[float]]:
    """Look up or compute the log-probability of every answer.

    Several processes share what is to be computed.

    Args:
        model: The reference model, without an adapter.
        identity: Whatever else changes the values: the model's hash or id and revision, its
            number format and device, and the collator's layout, in which some models differ.
        rows: Tokenised rows of the training set.
        collator: Lays a row out for the model.
        folder: Where the values are kept; safe for several processes at once.

    Returns:
        Per row, one value per answer, in nats.

    Raises:
        UserError: The kept values can't be read or written.
    """
    keys = [_keys(identity, row) for row in rows]
    with open_value_cache(folder, "log-probabilities") as cache:
        # one process looks up for all, because another may keep a value in between
        known = processes.from_main(
            lambda: {key: cache.get(key) for of_row in keys for key in of_row}
        )
        missing = [
            (row, of_row)
            for row, of_row in zip(rows, keys, strict=True)
            if any(known[key] is None for key in of_row)
        ]
        computed: dict[str, float] = {}
        for row, of_row in tqdm(
            processes.share(missing),
            desc="Reference log-probabilities",
            unit="prompt",
            disable=not (missing and processes.is_main()),
        ):
            values = dict(zip(of_row, _compute(model, row, collator), strict=True))
            with cache.transact():
                for key, value in values.items():
                    cache[key] = value
            computed |= values
        for values in processes.gather([computed]):
            known |= values
    return [[known[key] for key in of_row] for of_row in keys]


def _compute(model: PreTrainedModel, row: dict[str, Any], collator: PromptCollator) -> list[float]:
    model.eval()
    batch = {name: value.to(model.device) for name, value in collator([row]).items()}
    with torch.no_grad():
        values: list[float] = answer_logps(model, batch).logps.tolist()
    return values


def _keys(identity: Mapping[str, Any], row: dict[str, Any]) -> list[str]:
    """A key per answer: of the model and the tokens, whatever stands beside them."""
    return [
        hashlib.sha256(
            json.dumps([dict(identity), row["prompt_ids"], answer], sort_keys=True).encode()
        ).hexdigest()
        for answer in row["answer_ids"]
    ]
