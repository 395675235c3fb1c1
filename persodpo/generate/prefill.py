"""The prompts' keys and values on a CPU: each prompt by itself, what prompts share once.

A CPU reads a prompt fastest alone: nothing is padded, and what a layer computes
stays in its caches. It writes answers fastest many at a time, because every token
needs all weights from memory. So each prompt is read alone, behind what it has in
common with the prompt before it in alphabetical order (the instruction; the persona,
for two questions of one dialogue; everything, for several samples of one prompt), and
their keys and values are put side by side for decoding. The tokens that come out are
those of a plain batch.
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
    read = _read_in_order(weights, {tuple(ids[:-1]) for ids in token_ids})
    rows = [read[tuple(ids[:-1])] for ids in token_ids]
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


def _read_in_order(
    weights: PreTrainedModel, prompts: set[tuple[int, ...]]
) -> dict[tuple[int, ...], DynamicCache]:
    """The keys and values of each prompt's tokens; of what two neighbours begin with, once."""
    read: dict[tuple[int, ...], DynamicCache] = {}
    before: tuple[int, ...] = ()
    cache = DynamicCache(config=weights.config)
    # in order, none of those before has more in common with a prompt than its neighbour
    for prompt in sorted(prompts):
        shared = _shared_tokens(before, prompt)
        cache = copy.deepcopy(cache)
        cache.crop(shared - len(before))
        weights(
            input_ids=torch.tensor([prompt[shared:]]), past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        read[prompt] = cache
        before = prompt
    return read


def _shared_tokens(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Length of the common beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _plain(cache: DynamicCache | StaticCache, kind: type) -> bool:
    return bool(cache.layers) and all(type(layer) is kind for layer in cache.layers)


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Pad keys or values, shape (1, heads, tokens, size), on the left to so many tokens."""
    return pad(tensor, (0, 0, length - tensor.shape[2], 0))
