"""Tokenised texts in batches of similar length, so that little of a batch is padding."""

from collections.abc import Iterator

from tqdm import tqdm
from transformers import BatchEncoding, DataCollatorWithPadding, PreTrainedTokenizerBase

from persodpo import processes


def padded_batches(
    encoded: BatchEncoding, tokenizer: PreTrainedTokenizerBase, batch_tokens: int
) -> Iterator[tuple[list[int], BatchEncoding]]:
    """Sort texts by their number of tokens and cut them into batches, the longest first.

    A batch too big for the memory therefore fails at once, not at the end. Batches are as
    large in tokens, not in texts, because a CPU is fastest while a batch fits its cache. What
    takes longer than a second shows its progress.

    Args:
        encoded: Unpadded `input_ids` and what belongs to them, for n texts.
        tokenizer: Pads them.
        batch_tokens: Most tokens of a batch, padding included; a longer text is alone in it.

    Yields:
        The texts' numbers, and their tensors of shape (texts, tokens of the longest).
    """
    lengths = [len(ids) for ids in encoded["input_ids"]]
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    pad = DataCollatorWithPadding(tokenizer)
    start = 0
    with tqdm(
        total=len(order), desc="Judging", unit="text", delay=1, disable=not processes.is_main()
    ) as bar:
        while start < len(order):
            longest = max(lengths[order[start]], 1)
            rows = order[start : start + max(batch_tokens // longest, 1)]
            start += len(rows)
            yield rows, pad([{name: encoded[name][row] for name in encoded} for row in rows])
            bar.update(len(rows))
