"""Batches in which each prompt stands once, followed by all its answers.

A row is [prompt, answer 1, answer 2, ...]. Every answer attends to its prompt and
to itself only, and its positions go on from the prompt's end, so its
log-probability is the one it would have alone behind the prompt; the prompt is
computed once instead of twice per pair. Prompts are padded on the left, so the
answers of all rows begin in the same column.
"""

from dataclasses import dataclass
from typing import Any

import torch

Batch = dict[str, torch.Tensor]

# What a row of the training set has.
COLUMNS = ("prompt_ids", "answer_ids", "reference", "chosen", "rejected", "weight")


@dataclass
class SharedPromptCollator:
    """Lays rows of the training set out as one batch.

    Args:
        pad_token_id: What fills the padding; it is never attended to.

    Called with rows that have `prompt_ids` (tokens), `answer_ids` (tokens per
    answer) and, for training, `reference` (log-probability per answer), `chosen` and
    `rejected` (indices into the answers, one per pair) and `weight` (one per pair),
    it returns, for B rows of at most P prompt and A answer tokens, N answers with T
    tokens in all, and M pairs:
        input_ids, position_ids: (B, P + A)
        attention_mask: (B, 1, P + A, P + A), bool, True where attention is allowed
        logits_to_keep: (), A + 1: the last columns, whose logits predict answers
        token_row, token_column: (T,), where in these logits each answer token is predicted
        token_id: (T,), the answer tokens
        token_answer: (T,), the answer each belongs to
        answer_length: (N,), tokens of each answer
        reference: (N,), what the rows say
        chosen, rejected: (M,), the answers of each pair
        weight: (M,)
    """

    pad_token_id: int

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        """Collate; see the class."""
        prompt_width = max(len(row["prompt_ids"]) for row in rows)
        answer_width = max(sum(map(len, row["answer_ids"])) for row in rows)
        shape = (len(rows), prompt_width + answer_width)
        input_ids = torch.full(shape, self.pad_token_id)
        position_ids = torch.zeros(shape, dtype=torch.long)
        # 0 marks the prompt, k its k-th answer, -1 the padding
        segment = torch.full(shape, -1)
        tokens: dict[str, list[int]] = {"row": [], "column": [], "id": [], "answer": []}
        lengths: list[int] = []
        sides: dict[str, list[int]] = {"chosen": [], "rejected": []}
        for i, row in enumerate(rows):
            for side, indices in sides.items():
                indices += [len(lengths) + k for k in row.get(side, [])]
            prompt_length = len(row["prompt_ids"])
            pieces = [(0, prompt_width - prompt_length, row["prompt_ids"], 0)]
            column = prompt_width
            for k, answer in enumerate(row["answer_ids"], start=1):
                pieces.append((k, column, answer, prompt_length))
                offset = column - prompt_width
                # an answer's first token is predicted by the prompt's last, kept as column 0
                tokens["column"] += [0, *range(offset + 1, offset + len(answer))]
                tokens["row"] += [i] * len(answer)
                tokens["id"] += answer
                tokens["answer"] += [len(lengths)] * len(answer)
                lengths.append(len(answer))
                column += len(answer)
            for k, start, ids, position in pieces:
                place = slice(start, start + len(ids))
                input_ids[i, place] = torch.tensor(ids)
                position_ids[i, place] = torch.arange(position, position + len(ids))
                segment[i, place] = k
        return {
            "input_ids": input_ids,
            "position_ids": position_ids,
            "attention_mask": _attention_mask(segment),
            "logits_to_keep": torch.tensor(answer_width + 1),
            **{f"token_{name}": torch.tensor(values) for name, values in tokens.items()},
            "answer_length": torch.tensor(lengths),
            **{side: torch.tensor(indices) for side, indices in sides.items()},
            **{
                name: torch.tensor([value for row in rows for value in row.get(name, [])])
                for name in ("reference", "weight")
            },
        }


def _attention_mask(segment: torch.Tensor) -> torch.Tensor:
    """Who may attend to whom.

    Args:
        segment: (B, S): 0 for prompt tokens, k for the k-th answer, -1 for padding.

    Returns:
        (B, 1, S, S), bool. Padding attends to itself, since a row without any
        allowed column would turn the softmax into NaN.
    """
    query, key = segment[:, :, None], segment[:, None, :]
    size = segment.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool).tril()
    allowed = ((key == 0) | (key == query)) & (key >= 0) & (query >= 0) & causal
    return (allowed | torch.eye(size, dtype=torch.bool))[:, None]
