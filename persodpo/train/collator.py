"""Batches of prompts with all their answers, in one of two layouts.

shared    A row is [prompt, answer 1, answer 2, ...]. Every answer attends to its prompt
          and to itself only, and its positions go on from the prompt's end, so its
          log-probability is the one it would have alone behind the prompt; the prompt
          is computed once instead of twice per pair. Prompts are padded on the left, so
          the answers of all rows begin in the same column.
separate  A row is [prompt, answer], padded on the left, with the usual causal mask, as
          TRL has it; each different answer still stands there once. For models that
          don't take a mask of their own for every token (see `persodpo.train.layout`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, TypedDict

import torch

from persodpo.train.rows import Ids, TokenisedRow, TrainingRow, empty_row

Layout = Literal["shared", "separate"]

# Tokens of a segment: the prompt's, those of its k-th answer, padding.
PROMPT, PADDING = 0, -1


class TokenBatch(TypedDict):
    """What a pass through the model needs, of R prompts with N answers with T tokens in all.

    A dict, because the trainer moves no other type to the model's device. S is the width of a
    sequence: of the longest prompt and of the answers of a prompt, or of one answer.

    Attributes:
        input_ids, position_ids: (R, S), or (N, S) if separate.
        attention_mask: (R, 1, S, S), bool, True where attention is allowed; if separate (N, S),
            1 where there is no padding.
        logits_to_keep: (), so many last columns have the logits that predict answers.
        token_row, token_column: (T,), where in these logits each answer token is predicted.
        token_id: (T,), the answer tokens.
        token_answer: (T,), the answer each belongs to.
        answer_length: (N,), tokens of each answer.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    logits_to_keep: torch.Tensor
    token_row: torch.Tensor
    token_column: torch.Tensor
    token_id: torch.Tensor
    token_answer: torch.Tensor
    answer_length: torch.Tensor


class Batch(TokenBatch):
    """What the loss needs beside, of M pairs.

    Attributes:
        reference_logps: (N,), log-probability of each answer under the reference model, in nats.
        chosen, rejected: (M,), the answers of each pair.
        weight, offset, difference: (M,), see `persodpo.train.rows.AnswerPair`.
    """

    reference_logps: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor
    weight: torch.Tensor
    offset: torch.Tensor
    difference: torch.Tensor


@dataclass(frozen=True)
class PromptCollator:
    """Lays rows of the training set out as one batch.

    Args:
        pad_token_id: What fills the padding; it is never attended to.
        layout: See the module.
    """

    pad_token_id: int
    layout: Layout = "shared"

    def __call__(self, rows: Sequence[TrainingRow]) -> Batch:
        """Tokens and pairs of some rows; of no rows a batch with one answer and no pairs."""
        rows = rows or [empty_row(self.pad_token_id)]
        first = accumulate((len(row.answer_ids) for row in rows), initial=0)
        numbered = [(n, pair) for row, n in zip(rows, first, strict=False) for pair in row.pairs]
        pairs = [pair for _, pair in numbered]
        return {
            **self.tokens(rows),
            "reference_logps": torch.tensor([each for row in rows for each in row.reference_logps]),
            "chosen": torch.tensor([n + pair.chosen for n, pair in numbered], dtype=torch.long),
            "rejected": torch.tensor([n + pair.rejected for n, pair in numbered], dtype=torch.long),
            "weight": torch.tensor([pair.weight for pair in pairs]),
            "offset": torch.tensor([pair.offset for pair in pairs]),
            "difference": torch.tensor([pair.difference for pair in pairs]),
        }

    def tokens(self, rows: Sequence[TokenisedRow]) -> TokenBatch:
        """Tokens of some rows, without their pairs."""
        if self.layout == "shared":
            return self._lay_out(rows)
        return self._right_align([(row.prompt_ids, ids) for row in rows for ids in row.answer_ids])

    def _lay_out(self, rows: Sequence[TokenisedRow]) -> TokenBatch:
        """One sequence per prompt, its answers behind it."""
        prompt_width = max(len(row.prompt_ids) for row in rows)
        answer_width = max(sum(map(len, row.answer_ids)) for row in rows)
        canvas = _Canvas.empty(len(rows), prompt_width + answer_width, self.pad_token_id)
        for i, row in enumerate(rows):
            length = len(row.prompt_ids)
            canvas.write(i, prompt_width - length, row.prompt_ids, 0, PROMPT)
            offset = 0
            for k, answer in enumerate(row.answer_ids, start=1):
                canvas.write(i, prompt_width + offset, answer, length, k)
                # an answer's first token is predicted by the prompt's last, which is column 0
                canvas.predict(i, answer, [0, *range(offset + 1, offset + len(answer))])
                offset += len(answer)
        return canvas.batch(_attention_mask(canvas.segment), answer_width + 1)

    def _right_align(self, sequences: Sequence[tuple[Ids, Ids]]) -> TokenBatch:
        """One sequence per answer, all ending in the last column."""
        width = max(len(prompt) + len(answer) for prompt, answer in sequences)
        n_logits = max(len(answer) for _, answer in sequences) + 1
        canvas = _Canvas.empty(len(sequences), width, self.pad_token_id)
        for i, (prompt, answer) in enumerate(sequences):
            canvas.write(i, width - len(prompt) - len(answer), prompt + answer, 0, PROMPT)
            canvas.predict(i, answer, range(n_logits - len(answer) - 1, n_logits - 1))
        return canvas.batch((canvas.segment != PADDING).long(), n_logits)


@dataclass(frozen=True)
class _Canvas:
    """Sequences that are being laid out, and where the logits of each answer token will be."""

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    segment: torch.Tensor
    token_row: list[int] = field(default_factory=list)
    token_column: list[int] = field(default_factory=list)
    token_id: list[int] = field(default_factory=list)
    answer_length: list[int] = field(default_factory=list)

    @classmethod
    def empty(cls, rows: int, width: int, pad_token_id: int) -> "_Canvas":
        """Padding only."""
        size = (rows, width)
        positions = torch.zeros(size, dtype=torch.long)
        return cls(torch.full(size, pad_token_id), positions, torch.full(size, PADDING))

    def write(self, row: int, start: int, ids: Ids, position: int, segment: int) -> None:
        """Put tokens into a row, from a column and from a position on."""
        place = slice(start, start + len(ids))
        self.input_ids[row, place] = torch.tensor(ids)
        self.position_ids[row, place] = torch.arange(position, position + len(ids))
        self.segment[row, place] = segment

    def predict(self, row: int, answer: Ids, columns: Iterable[int]) -> None:
        """Note in which of the logits that are computed the next answer's tokens are predicted."""
        self.token_row.extend([row] * len(answer))
        self.token_column.extend(columns)
        self.token_id.extend(answer)
        self.answer_length.append(len(answer))

    def batch(self, attention_mask: torch.Tensor, n_logits: int) -> TokenBatch:
        """What is laid out, as tensors."""
        lengths = torch.tensor(self.answer_length)
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "attention_mask": attention_mask,
            "logits_to_keep": torch.tensor(n_logits),
            "token_row": torch.tensor(self.token_row),
            "token_column": torch.tensor(self.token_column),
            "token_id": torch.tensor(self.token_id),
            "token_answer": torch.arange(len(lengths)).repeat_interleave(lengths),
            "answer_length": lengths,
        }


def _attention_mask(segment: torch.Tensor) -> torch.Tensor:
    """Who may attend to whom.

    Args:
        segment: (R, S): PROMPT for prompt tokens, k for the k-th answer, or PADDING.

    Returns:
        (R, 1, S, S), bool. Padding attends to itself, since a row without any
        allowed column would turn the softmax into NaN.
    """
    query, key = segment[:, :, None], segment[:, None, :]
    size = segment.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    allowed = ((key == PROMPT) | (key == query)) & (key != PADDING) & (query != PADDING) & causal
    return (allowed | torch.eye(size, dtype=torch.bool))[:, None]
