"""What calls cost: before the first one as an estimate, afterwards as counted by the server."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import NonNegativeFloat, ValidationError

from persodpo.config.models import OpenAIModel
from persodpo.config.sections import Section, Text
from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError
from persodpo.generate.request import Request
from persodpo.records import describe

MESSAGE_TOKENS = 8  # what chat templates put around a message, roughly


class Price(Section):
    """US dollars per million tokens; a model of None stands for all others at the address.

    In batch mode they are multiplied by `batch`; without it the server has no such mode.
    """

    base_url: Text
    model: Text | None
    input: NonNegativeFloat
    output: NonNegativeFloat
    batch: NonNegativeFloat | None = None

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """The price of so many tokens in US dollars."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


class PriceList(Section):
    """The file that `generate.prices` names."""

    date: Text
    source: Text
    prices: list[Price]


class Estimate(NamedTuple):
    """What a model's requests will take.

    Attributes:
        model: Its key in `params.yaml`.
        requests: Different requests.
        cached: Those whose answer is there.
        calls: Those that must be made.
        prompt_tokens: About so many tokens in their prompts.
        completion_tokens: At most so many tokens in their answers.
        cost_usd: At these numbers of tokens; 0 on this machine.
    """

    model: str
    requests: int
    cached: int
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


def read_price(path: Path, name: str, model: OpenAIModel) -> Price:
    """Find a model's price.

    Args:
        path: The price list.
        name: The model's key in `params.yaml`, for messages.
        model: Its section there.

    Raises:
        UserError: The file is no price list, or the model isn't in it, or not in batch mode.
    """
    try:
        prices = PriceList.model_validate(load_yaml(path)).prices
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error.errors()[0])}.") from error
    here = [price for price in prices if price.base_url.rstrip("/") == model.base_url]
    for wanted in (model.model, None):
        for price in here:
            if price.model == wanted:
                return price if model.mode == "live" else _in_batch_mode(price, path, name)
    raise UserError(
        f"{path}: there is no price for {model.model!r} at {model.base_url} (models.{name}); "
        "add one, 0 for a server of your own."
    )


def _in_batch_mode(price: Price, path: Path, name: str) -> Price:
    if price.batch is None:
        raise UserError(
            f"{path}: the price of models.{name} has no factor `batch`, and its mode is batch; add "
            "one, such as 0.5, if the server at its address has the Batch API, or set mode to live."
        )
    changes = {"input": price.input * price.batch, "output": price.output * price.batch}
    return price.model_copy(update=changes)


def estimate_tokens(request: Request) -> int:
    """About how many tokens a request's prompt has: four bytes of UTF-8 each, as in English."""
    return sum(
        MESSAGE_TOKENS + math.ceil(len(message.content.encode()) / 4)
        for message in request.messages
    )


def estimate(name: str, requests: int, missing: Sequence[Request], price: Price | None) -> Estimate:
    """Tell what a model's requests will take.

    Args:
        name: The model's key in `params.yaml`.
        requests: Number of its different requests.
        missing: Those without an answer.
        price: The model's price; None on this machine.
    """
    prompt_tokens = sum(map(estimate_tokens, missing))
    completion_tokens = sum(request.max_tokens for request in missing)
    return Estimate(
        model=name,
        requests=requests,
        cached=requests - len(missing),
        calls=len(missing),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=price.cost(prompt_tokens, completion_tokens) if price else 0.0,
    )
