"""Log-probabilities of answers under the reference model, each computed once and stored.

They depend on the base model, its number format, the layout and the tokens, not on scores,
weights, margins, beta or the learning rate. So they are stored under the cache folder
from one method and experiment to the next, and the policy is trained without a second
model in memory.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import PreTrainedModel

from persodpo import processes
from persodpo.train.collator import PromptCollator
from persodpo.train.loss import rows_logps
from persodpo.train.rows import TokenisedRow, TrainingRow
from persodpo.value_cache import open_value_cache


def with_reference_logps(
    model: PreTrainedModel,
    identity: Mapping[str, Any],
    rows: Sequence[TokenisedRow],
    collator: PromptCollator,
    folder: Path,
) -> list[TrainingRow]:
    """Look up or compute the log-probability of every answer under the reference model.

    Several processes share what is to be computed.

    Args:
        model: The reference model, without an adapter.
        identity: Whatever else changes the values: the model's hash or id and revision, its
            number format and device, and the collator's layout, in which some models differ.
        rows: Rows of the training set.
        collator: Lays a row out for the model.
        folder: Of the stored values; safe for several processes at once.

    Returns:
        The rows with these values, in nats.

    Raises:
        UserError: The stored values can't be read or written.
    """
    keys = [_keys(identity, row) for row in rows]
    with open_value_cache(folder, "log-probabilities") as cache:
        # one process looks up for all, because another may store a value in between
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
            logps = rows_logps(model, [row], collator).tolist()
            values = dict(zip(of_row, logps, strict=True))
            with cache.transact():
                for key, value in values.items():
                    cache[key] = value
            computed |= values
        for values in processes.gather([computed]):
            known |= values
    return [
        row.with_reference([known[key] for key in of_row])
        for row, of_row in zip(rows, keys, strict=True)
    ]


def _keys(identity: Mapping[str, Any], row: TokenisedRow) -> list[str]:
    """A key per answer: of the model and the tokens, whatever stands beside them."""
    return [
        hashlib.sha256(
            json.dumps([dict(identity), row.prompt_ids, answer], sort_keys=True).encode()
        ).hexdigest()
        for answer in row.answer_ids
    ]
