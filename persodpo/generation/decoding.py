"""How a batch is decoded on this machine: own random numbers per row, and an early stop.

`transformers` draws all rows of a batch from one stream of random numbers, so an
answer would depend on its neighbours. Here each row has its own stream.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase, StoppingCriteria

from persodpo.prompts import object_is_closed


class RowSampler(LogitsProcessor):  # type: ignore[misc]  # skipped by mypy, see pyproject
    """Samples one token per row by the row's own random numbers.

    It comes last, after temperature and top-p, and leaves a single possible token, which
    greedy decoding then takes. The token is the one at which the cumulative probability
    passes a uniform number (inverse transform sampling).

    Args:
        seeds: One seed per row.
        prompt_length: Number of (padded) prompt tokens in front of each row.
        max_tokens: At most so many tokens are generated.
    """

    def __init__(self, seeds: Sequence[int], prompt_length: int, max_tokens: int) -> None:
        draws = [np.random.default_rng(seed).random(max_tokens) for seed in seeds]
        self.uniform = torch.tensor(np.stack(draws))
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Keep one token; scores are logits, shape (batch, vocabulary)."""
        step = input_ids.shape[1] - self.prompt_length
        # in float64 (which Apple's GPUs lack), because rounding over a whole vocabulary adds up
        dtype = torch.float32 if scores.device.type == "mps" else torch.float64
        cumulative = scores.to(dtype).softmax(dim=-1).cumsum(dim=-1)
        uniform = self.uniform[:, step : step + 1].to(scores.device, dtype)
        # scaled by the last value, which rounding leaves a little off 1
        token = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        token = token.clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


class ObjectClosed(StoppingCriteria):  # type: ignore[misc]  # skipped by mypy, see pyproject
    """Ends each row of a batch when the JSON object of its answer is complete.

    Args:
        tokenizer: Turns the generated tokens back into text.
        prompt_length: Number of (padded) prompt tokens in front of each row.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_length: int) -> None:
        self.tokenizer = tokenizer
        self.prompt_length = prompt_length
        self.length: dict[int, int] = {}
        """Number of generated tokens of each row that is done."""

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object
    ) -> torch.Tensor:
        """Tell which rows are done; shape (batch,), bool."""
        # only a token with a brace can close an object, so most steps decode one token a row
        for i, token in enumerate(self.tokenizer.batch_decode(input_ids[:, -1:])):
            if "}" in token and i not in self.length:
                answer = input_ids[i, self.prompt_length :]
                if object_is_closed(self.tokenizer.decode(answer, skip_special_tokens=True)):
                    self.length[i] = len(answer)
        done = [i in self.length for i in range(len(input_ids))]
        return torch.tensor(done, device=input_ids.device)
