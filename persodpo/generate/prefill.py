"""The prompts' keys and values on a CPU: each prompt by itself, what all share once.

A CPU reads a prompt fastest alone: nothing is padded, and what a layer computes
stays in its caches. It writes answers fastest many at a time, because every token
needs all weights from memory. So each prompt is read alone, behind the beginning
that all prompts share (the system prompt and the instruction), and their keys and
values are put side by side for decoding. The tokens that come out are those of a
plain batch.
"""

import copy
from collections.abc import Sequence
from itertools import takewhile

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer, StaticCache, StaticLayer


def read_prompts(
    weights: PreTrainedModel, token_ids: Sequence[list[int]], max_tokens: int
) -> StaticCache | None:
    """Compute the keys and values of all tokens but each prompt's last one.

    Args:
        weights: A model on the CPU.
        token_ids: The prompts' tokens, at least two each.
        max_tokens: Room for so many tokens of an answer is left.

    Returns:
        A cache of the prompts padded on the left to the longest, for `generate`; None for a
        model whose layers don't keep the keys and values of all tokens, as those with
        sliding windows or states do.
    """
    if not _plain(DynamicCache(config=weights.config), DynamicLayer):
        return None
    longest = max(map(len, token_ids))
    cache = StaticCache(config=weights.config, max_cache_len=longest + max_tokens)
    if not _plain(cache, StaticLayer):
        return None
    shared = _shared_tokens(token_ids)
    beginning = DynamicCache(config=weights.config)
    if shared:
        _read(weights, token_ids[0][:shared], beginning)
    rows = []
    for ids in token_ids:
        row = copy.deepcopy(beginning)
        _read(weights, ids[shared:-1], row)
        rows.append(row)
    for i in range(len(rows[0].layers)):
        # a row's layer is let go of as soon as it is copied, so no more than the whole is held
        layers = [row.layers[i] for row in rows]
        keys, values = (
            torch.cat([_padded(tensor, longest - 1) for tensor in tensors])
            for tensors in ([x.keys for x in layers], [x.values for x in layers])
        )
        cache.update(keys, values, i)
        for layer in layers:
            layer.keys = layer.values = None
    return cache


def _shared_tokens(token_ids: Sequence[list[int]]) -> int:
    """Length of the common beginning; each prompt keeps two tokens: one to read, and its last."""
    columns = zip(*(ids[:-2] for ids in token_ids), strict=False)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


def _plain(cache: DynamicCache | StaticCache, kind: type) -> bool:
    return bool(cache.layers) and all(type(layer) is kind for layer in cache.layers)


def _read(weights: PreTrainedModel, ids: list[int], cache: DynamicCache) -> None:
    weights(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1)


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Pad keys or values, shape (1, heads, tokens, size), on the left to so many tokens."""
    return pad(tensor, (0, 0, length - tensor.shape[2], 0))
