"""Tokenised texts in batches of similar length, so that little of a batch is padding."""

from collections.abc import Iterator

from transformers import BatchEncoding, DataCollatorWithPadding, PreTrainedTokenizerBase


def padded_batches(
    encoded: BatchEncoding, tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> Iterator[tuple[list[int], BatchEncoding]]:
    """Sort texts by their number of tokens and cut them into batches, the longest first.

    A batch too big for the memory therefore fails at once, not at the end.

    Args:
        encoded: Unpadded `input_ids` and what belongs to them, for n texts.
        tokenizer: Pads them.
        batch_size: Texts per batch.

    Yields:
        The texts' numbers, and their tensors of shape (texts, tokens of the longest).
    """
    lengths = [len(ids) for ids in encoded["input_ids"]]
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    pad = DataCollatorWithPadding(tokenizer)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, pad([{name: encoded[name][row] for name in encoded} for row in rows])
