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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

Batch = dict[str, torch.Tensor]
Layout = Literal["shared", "separate"]

# What a row of the training set has beside its tokens, one value per pair but for `reference`.
PER_PAIR = ("weight", "offset", "difference")
# Tokens of a segment: the prompt's, those of its k-th answer, padding.
PROMPT, PADDING = 0, -1


@dataclass
class PromptCollator:
    """Lays rows of the training set out as one batch.

    Args:
        pad_token_id: What fills the padding; it is never attended to.
        layout: See the module.

    Called with rows that have `prompt_ids` (tokens), `answer_ids` (tokens per
    answer) and, for training, `reference` (log-probability per answer), `chosen` and
    `rejected` (indices into the answers, one per pair) and what PER_PAIR names, it
    returns, for R rows of at most P prompt and A answer tokens, N answers with T tokens
    in all, and M pairs (of no rows it gives a batch with one answer and no pairs):
        input_ids, position_ids: (R, P + A), or (N, ...) if separate
        attention_mask: (R, 1, P + A, P + A), bool, True where attention is allowed; if
            separate (N, ...), 1 where there is no padding
        logits_to_keep: (), so many last columns have the logits that predict answers
        token_row, token_column: (T,), where in these logits each answer token is predicted
        token_id: (T,), the answer tokens
        token_answer: (T,), the answer each belongs to
        answer_length: (N,), tokens of each answer
        reference: (N,), what the rows say
        chosen, rejected: (M,), the answers of each pair
        weight, offset, difference: (M,)
    """

    pad_token_id: int
    layout: Layout = "shared"

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        """Collate; see the class."""
        rows = rows or [{"prompt_ids": [self.pad_token_id], "answer_ids": [[self.pad_token_id]]}]
        shared = self.layout == "shared"
        sequences = [
            (row["prompt_ids"], answers)
            for row in rows
            for answers in ([row["answer_ids"]] if shared else [[a] for a in row["answer_ids"]])
        ]
        batch = self._lay_out(sequences) if shared else self._right_align(sequences)
        return batch | _pairs(rows)

    def _lay_out(self, sequences: list[tuple[list[int], list[list[int]]]]) -> Batch:
        """One sequence per prompt, its answers behind it."""
        prompt_width = max(len(prompt) for prompt, _ in sequences)
        answer_width = max(sum(map(len, answers)) for _, answers in sequences)
        tensors = self._empty(len(sequences), prompt_width + answer_width)
        places = _Places()
        for i, (prompt, answers) in enumerate(sequences):
            _write(tensors, i, prompt_width - len(prompt), prompt, 0, PROMPT)
            offset = 0
            for k, answer in enumerate(answers, start=1):
                _write(tensors, i, prompt_width + offset, answer, len(prompt), k)
                # an answer's first token is predicted by the prompt's last, kept as column 0
                places.add(i, answer, [0, *range(offset + 1, offset + len(answer))])
                offset += len(answer)
        segment = tensors.pop("segment")
        tensors["attention_mask"] = _attention_mask(segment)
        return tensors | places.tensors() | {"logits_to_keep": torch.tensor(answer_width + 1)}

    def _right_align(self, sequences: list[tuple[list[int], list[list[int]]]]) -> Batch:
        """One sequence per answer, all ending in the last column."""
        width = max(len(prompt) + len(answer) for prompt, (answer,) in sequences)
        kept = max(len(answer) for _, (answer,) in sequences) + 1
        tensors = self._empty(len(sequences), width)
        places = _Places()
        for i, (prompt, (answer,)) in enumerate(sequences):
            _write(tensors, i, width - len(prompt) - len(answer), [*prompt, *answer], 0, PROMPT)
            first = kept - len(answer) - 1
            places.add(i, answer, list(range(first, first + len(answer))))
        segment = tensors.pop("segment")
        tensors["attention_mask"] = (segment != PADDING).long()
        return tensors | places.tensors() | {"logits_to_keep": torch.tensor(kept)}

    def _empty(self, rows: int, width: int) -> Batch:
        return {
            "input_ids": torch.full((rows, width), self.pad_token_id),
            "position_ids": torch.zeros((rows, width), dtype=torch.long),
            "segment": torch.full((rows, width), PADDING),
        }


class _Places:
    """Where the logits of each answer token are, filled answer by answer."""

    def __init__(self) -> None:
        self.columns: dict[str, list[int]] = {"row": [], "column": [], "id": [], "answer": []}
        self.lengths: list[int] = []

    def add(self, row: int, answer: list[int], columns: list[int]) -> None:
        self.columns["row"] += [row] * len(answer)
        self.columns["column"] += columns
        self.columns["id"] += answer
        self.columns["answer"] += [len(self.lengths)] * len(answer)
        self.lengths.append(len(answer))

    def tensors(self) -> Batch:
        columns = {f"token_{name}": torch.tensor(each) for name, each in self.columns.items()}
        return columns | {"answer_length": torch.tensor(self.lengths)}


def _write(tensors: Batch, row: int, start: int, ids: list[int], position: int, kind: int) -> None:
    place = slice(start, start + len(ids))
    tensors["input_ids"][row, place] = torch.tensor(ids)
    tensors["position_ids"][row, place] = torch.arange(position, position + len(ids))
    tensors["segment"][row, place] = kind


def _pairs(rows: list[dict[str, Any]]) -> Batch:
    """What belongs to the pairs, the same in both layouts."""
    sides: dict[str, list[int]] = {"chosen": [], "rejected": []}
    n_answers = 0
    for row in rows:
        for side, indices in sides.items():
            indices += [n_answers + k for k in row.get(side, [])]
        n_answers += len(row["answer_ids"])

    def values(name: str) -> Iterator[float]:
        return (value for row in rows for value in row.get(name, []))

    reference = list(values("reference")) or [0.0] * n_answers
    return {
        **{side: torch.tensor(indices, dtype=torch.long) for side, indices in sides.items()},
        "reference": torch.tensor(reference),
        **{name: torch.tensor(list(values(name))) for name in PER_PAIR},
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
