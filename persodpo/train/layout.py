"""Whether a model takes the shared layout: asked of the model itself, before the training.

The shared layout (`persodpo.train.collator`) needs a model that obeys a mask of its
own for every token and positions that start again. One with sliding windows shorter
than the prompt, with states, or with kernels of its own for attention does not, and
most of these say nothing. So both layouts are computed for two prompts and compared.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from transformers import PreTrainedModel

from persodpo import processes
from persodpo.errors import UserError
from persodpo.train.collator import Layout, PromptCollator
from persodpo.train.loss import rows_logps
from persodpo.train.rows import TokenisedRow


def choose_layout(
    wanted: Literal["auto", "shared", "separate"],
    model: PreTrainedModel,
    rows: Sequence[TokenisedRow],
    pad_token_id: int,
    dtype: torch.dtype,
) -> Layout:
    """Choose the layout of batches, and say so where `auto` can't have the fast one.

    Args:
        wanted: `auto` takes the shared layout if `shared_layout_error` finds nothing, `shared` is
            refused else.
        model: The model, on its device.
        rows: Rows of the training set.
        pad_token_id: See `PromptCollator`.
        dtype: The number format that the model computes in.

    Raises:
        UserError: The model can't have the layout that is wanted.
    """
    if wanted == "separate":
        return wanted
    error = shared_layout_error(model, rows, pad_token_id, dtype)
    if error and wanted == "shared":
        raise UserError(
            f"params.yaml: train.layout is shared, but {error}; set it to auto or separate."
        )
    if error and processes.is_main():
        sys.stderr.write(f"train.layout: each answer gets a prompt of its own, because {error}\n")
    return "separate" if error else "shared"


def shared_layout_error(
    model: PreTrainedModel, rows: Sequence[TokenisedRow], pad_token_id: int, dtype: torch.dtype
) -> str | None:
    """Compare the layouts on the prompt with the longest sequence and the one with most tokens.

    Args:
        model: The model.
        rows: Rows of the training set.
        pad_token_id: See `PromptCollator`.
        dtype: The number format that the model computes in.

    Returns:
        None if the answers' log-probabilities are equal up to rounding, else why the shared
        layout can't be had.
    """
    # a window that is too short shows on the longest sequence; two rows, so that one is padded
    compared = [
        max(rows, key=lambda row: len(row.prompt_ids) + max(map(len, row.answer_ids))),
        max(rows, key=lambda row: row.n_tokens),
    ]
    # of each the first answer and the last, which has all others between the prompt and itself
    ends = [
        replace(row, answer_ids=(row.answer_ids[0], row.answer_ids[-1]), pairs=())
        for row in compared
    ]
    separate = rows_logps(model, ends, PromptCollator(pad_token_id, "separate"))
    try:
        shared = rows_logps(model, compared, PromptCollator(pad_token_id, "shared"))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        # whatever a model of any architecture does with a mask that it wasn't made for
        return f"{type(model).__name__} fails on prompts with several answers ({error!r})"
    n_first = len(compared[0].answer_ids)
    places = [0, n_first - 1, n_first, n_first + len(compared[1].answer_ids) - 1]
    lengths = separate.new_tensor([len(ids) for row in ends for ids in row.answer_ids])
    per_token = (shared[places] - separate).abs() / lengths
    worst, allowed = float(per_token.max()), _allowed(dtype)
    if worst <= allowed:
        return None
    return (
        f"{type(model).__name__} gives answers that share a prompt other log-probabilities "
        f"(by up to {worst:.2g} a token, where rounding allows {allowed:.2g})"
    )


def _allowed(dtype: torch.dtype) -> float:
    """What rounding may change of an answer's log-probability, in nats a token."""
    return max(1e-4, 8 * torch.finfo(dtype).eps)
