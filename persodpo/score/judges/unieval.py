"""UniEval: a seq2seq model answers Yes or No whether a response is coherent.

    P(Yes) / (P(Yes) + P(No)) of the first word it would write, given
    question: ... </s> response: R </s> dialogue history: H

Source: Zhong et al., EMNLP 2022, arXiv:2210.07197, section 3.1, with the checkpoints
they published (MingZhong/unieval-dialog, a T5 v1.1 large). The history is the turns, one
per line, and an empty line. An input may have LIMIT tokens, as there; where theirs loses
the newest turns, ours loses the oldest: whole turns first, then the newest's beginning.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import torch
from transformers import PreTrainedTokenizerBase

from persodpo.errors import UserError
from persodpo.score.judges.batches import padded_batches
from persodpo.score.judges.checkpoints import load_seq2seq
from persodpo.score.metric import Judgement, Texts

LIMIT = 1024
QUESTION = "Is this a coherent response given the dialogue history?"


class UniEvalJudge:
    """A loaded seq2seq checkpoint.

    Args:
        name: Where it is (see `persodpo.models.locations`).
        revision: The commit of a Hugging Face id, else None.
        batch_tokens: Tokens per pass; it doesn't change judgements beyond rounding.
        key: The parameter that holds the name, for messages.

    Raises:
        UserError: The model can't be found, or doesn't tell Yes from No.
    """

    def __init__(self, name: str, revision: str | None, batch_tokens: int, key: str) -> None:
        self._model, self._tokenizer = load_seq2seq(name, revision, key)
        self._batch_tokens = batch_tokens
        # the first token of each word stands for it, as in UniEval's code
        self._yes, self._no = (self._tokenizer(word)["input_ids"][0] for word in ("Yes", "No"))
        self._start = self._model.config.decoder_start_token_id
        if self._yes == self._no or self._start is None:
            raise UserError(
                f"{key} is {name!r}, which doesn't tell Yes from No by their first token, or "
                "doesn't say with which token it begins to write; UniEval asks a T5."
            )

    def __call__(self, inputs: Sequence[Texts]) -> Iterator[list[tuple[Texts, Judgement]]]:
        """Judge (response, turn, turn, ...) inputs, the newest turn last.

        Yields:
            Per batch, each input with P(Yes) / (P(Yes) + P(No)).
        """
        texts = [fit(turns, response, self._tokenizer, LIMIT) for response, *turns in inputs]
        # too long only if the response alone is: what is cut is then a part of the history
        encoded = self._tokenizer(texts, truncation=True, max_length=LIMIT)
        for rows, batch in padded_batches(encoded, self._tokenizer, self._batch_tokens):
            batch.to(self._model.device)  # in place
            first = torch.full((len(rows), 1), self._start, device=self._model.device)
            with torch.inference_mode():
                logits = self._model(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    decoder_input_ids=first,
                ).logits[:, 0]
            # the softmax over two words, equal to P(Yes) / (P(Yes) + P(No)) over all of them
            probabilities = (logits[:, self._yes] - logits[:, self._no]).float().sigmoid().tolist()
            yield [(inputs[row], [p]) for row, p in zip(rows, probabilities, strict=True)]


def question(turns: Sequence[str], response: str) -> str:
    """UniEval's input for the coherence of a response to a dialogue."""
    history = "".join(f"{turn}\n" for turn in turns) + "\n"
    return f"question: {QUESTION} </s> response: {response} </s> dialogue history: {history}"


def fit(turns: Sequence[str], response: str, tokenizer: PreTrainedTokenizerBase, limit: int) -> str:
    """The input with as much of the dialogue's end as has room.

    Args:
        turns: The dialogue, the newest turn last.
        response: What is judged; of one that leaves no room for the newest turn, the first
            half of the limit is kept.
        tokenizer: Counts tokens.
        limit: Most tokens of the input.

    Returns:
        The text of at most `limit` tokens.
    """

    def too_long(text: str, most: int = limit) -> bool:
        return len(tokenizer(text)["input_ids"]) > most

    if not too_long(question(turns, response)):
        return question(turns, response)
    if too_long(question(turns[-1:], response)) and too_long(response, limit // 2):
        # the longest beginning that fits: the first length that doesn't, less one
        lengths = range(len(response) + 1)
        most = bisect_left(lengths, True, key=lambda n: too_long(response[:n], limit // 2)) - 1
        response = response[:most]
    for oldest in range(1, len(turns)):
        text = question(turns[oldest:], response)
        if not too_long(text):
            return text
    newest = turns[-1]
    cuts = range(len(newest))
    cut = bisect_left(cuts, True, key=lambda n: not too_long(question([newest[n:]], response)))
    return question([newest[cut:]], response)
