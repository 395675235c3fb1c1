"""How a batch is decoded on this machine: own random numbers per row, text, and an early stop.

`transformers` draws all rows of a batch from one stream of random numbers, so an
answer would depend on its neighbours. Here each row has its own stream.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LogitsProcessor, StoppingCriteria

from persodpo.models.chat_template import ChatTemplate
from persodpo.models.thoughts import TAG, split_thoughts
from persodpo.prompts import ContractRule, parse_response


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


class AnswerText:
    """Turns generated tokens into the text of an answer.

    Special tokens are left out, except the tags around thoughts, which some tokenizers have among
    them.

    Args:
        template: The model's chat template, with its tokenizer.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._tokenizer = template.tokenizer
        self._hidden = {
            number
            for number in template.special_ids
            if not TAG.fullmatch(self._tokenizer.convert_ids_to_tokens(number) or "")
        }
        self._with_brace: dict[int, bool] = {}

    def has_brace(self, token_id: int) -> bool:
        """Whether a token's text has a closing brace."""
        if token_id not in self._with_brace:
            self._with_brace[token_id] = "}" in self._tokenizer.decode([token_id])
        return self._with_brace[token_id]

    def __call__(self, token_ids: torch.Tensor) -> str:
        """The text of some tokens, shape (n,)."""
        shown = [number for number in token_ids.tolist() if number not in self._hidden]
        return str(self._tokenizer.decode(shown, skip_special_tokens=False))


class AnswerIsValid(StoppingCriteria):  # type: ignore[misc]  # skipped by mypy, see pyproject
    """Ends each row of a batch where the parser says that its answer is valid, and nowhere else.

    Args:
        text: Turns generated tokens into text.
        prompt_length: Number of (padded) prompt tokens in front of each row.
        rule: What counts as valid.
        in_thoughts: Whether each row's prompt ends inside the model's thoughts.
    """

    def __init__(
        self,
        text: AnswerText,
        prompt_length: int,
        rule: ContractRule,
        in_thoughts: Sequence[bool],
    ) -> None:
        self.text = text
        self.prompt_length = prompt_length
        self.rule = rule
        self.in_thoughts = in_thoughts
        self.length: dict[int, int] = {}
        """Number of generated tokens of each row that is done."""

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: object
    ) -> torch.Tensor:
        """Tell which rows are done; shape (batch,), bool."""
        for i, token in enumerate(input_ids[:, -1].tolist()):
            # only a token with a brace can make an answer valid, so most steps decode nothing
            if i not in self.length and self.text.has_brace(token):
                generated = input_ids[i, self.prompt_length :]
                parts = split_thoughts(self.text(generated), self.in_thoughts[i])
                if parse_response(parts.answer, self.rule).contract == "valid":
                    self.length[i] = len(generated)
        done = [i in self.length for i in range(len(input_ids))]
        return torch.tensor(done, device=input_ids.device)
