"""Requests to one model, whatever they are for: cache first, then an estimate, then the calls.

Every answer is in the cache as soon as it is received. Under several processes the main one looks
into the cache and decides what is asked; then a model on this machine is asked by all of them,
each a share, and a server by the main one.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from persodpo import processes
from persodpo.config.generate import GenerateParams
from persodpo.config.models import OpenAIModel, SampledModel, TransformersModel
from persodpo.errors import UserError
from persodpo.generate.cache import AnswerCache, Entry
from persodpo.generate.cost import Estimate, Price, estimate, read_price
from persodpo.generate.reply import cut_or
from persodpo.generate.request import Request, unique
from persodpo.generate.served import ServedModel
from persodpo.generate.tally import Tally
from persodpo.records import Answer, Prompt


class Caller(Protocol):
    """A backend that calls a model."""

    def requests(self, prompts: Sequence[Prompt], max_words: int) -> list[Request]:
        """One request per prompt, in the prompts' order; nothing is called."""

    def answer(self, requests: Sequence[Request], tally: Tally) -> None:
        """Call the model and hand each answer to `tally.store` as soon as it is received.

        Called in every process with the same requests; what this one keeps is its share.
        """


def make_caller(
    name: str,
    model: SampledModel,
    params: GenerateParams,
    policy: Path | None = None,
    weights_key: str | None = None,
) -> Caller:
    """The backend of a model that is called; see `persodpo.generate.run.generate_responses`.

    Each is imported late, because OpenAI's client and torch take seconds that the others need not
    wait.
    """
    if isinstance(model, OpenAIModel):
        from persodpo.generate.remote import OpenAICaller  # noqa: PLC0415
        from persodpo.generate.remote_batch import OpenAIBatchCaller  # noqa: PLC0415

        caller = OpenAIBatchCaller if model.mode == "batch" else OpenAICaller
        return caller(name, model, params)
    assert isinstance(model, TransformersModel)
    from persodpo.generate.local import TransformersCaller  # noqa: PLC0415

    return TransformersCaller(weights_key or name, model, params, policy)


class Asked(NamedTuple):
    """What came of requests.

    Attributes:
        answers: One per request, in their order.
        keys: Of each answer in the cache; None of one that isn't kept.
        tally: The count of the calls.
        price: The model's; None on this machine.
    """

    answers: list[Answer]
    keys: list[str | None]
    tally: Tally
    price: Price | None


def ask(
    name: str,
    model: SampledModel,
    caller: Caller,
    requests: Sequence[Request],
    prompt_ids: Sequence[str],
    params: GenerateParams,
    spent_usd: float = 0.0,
) -> Asked:
    """Answer requests to one model, none of them twice.

    Args:
        name: The model's key in `params.yaml`.
        model: Its section there.
        caller: Its backend.
        requests: At least one; the same in every process.
        prompt_ids: What each request is about, for messages.
        params: The settings that all models share.
        spent_usd: What the stage's run has spent before, which counts for the budget, too.

    Raises:
        UserError: The model can't be found; calls are forbidden, would cost too much, or stay
            without an answer; too many requests are refused; or another model answers under the
            same name. What was answered is kept.
    """
    cache = AnswerCache()
    # the other processes ask under the main one's lock, and wait for it in from_main
    with cache.asking(requests[0]) if processes.is_main() else contextlib.nullcontext():
        kept, missing, plan, price = processes.from_main(
            lambda: _prepare(name, model, requests, params, cache, spent_usd)
        )
        known = {key: entry.answer for key, entry in kept.items()}
        about = {r.key: id_ for r, id_ in zip(requests[::-1], prompt_ids[::-1], strict=True)}
        with Tally(plan, cache, price, params.max_cost_usd, about, known, spent_usd) as tally:
            if missing:
                caller.answer(missing, tally)
            tally.combine()
    known |= tally.answers
    answers = [_with_cut_marked(known[request.key], request) for request in requests]
    entries = {key: entry.key for key, entry in kept.items()} | tally.entries
    keys = [
        None if each.key in tally.uncached else entries.get(each.key, each.key) for each in requests
    ]
    return Asked(answers, keys, tally, price)


def estimate_requests(
    name: str,
    model: SampledModel,
    requests: Sequence[Request],
    params: GenerateParams,
    cache: AnswerCache | None,
) -> Estimate:
    """Tell what `ask` would take, without a call; without a cache no answer is there.

    Raises:
        UserError: The model's price can't be found, or a cached answer is damaged.
    """
    kept, missing = _look_up(requests, cache) if cache else ({}, unique(requests))
    return estimate(name, len(kept) + len(missing), missing, _price(name, model, params))


def _prepare(
    name: str,
    model: SampledModel,
    requests: Sequence[Request],
    params: GenerateParams,
    cache: AnswerCache,
    spent_usd: float,
) -> tuple[dict[str, Entry], list[Request], Estimate, Price | None]:
    """All that is settled before the first call: see `_look_up`, `estimate`, and the price."""
    price = _price(name, model, params)
    kept, missing = _look_up(requests, cache)
    if isinstance(model, OpenAIModel):
        ServedModel(name, model).refuse_mixed(entry.answer for entry in kept.values())
    plan = estimate(name, len(kept) + len(missing), missing, price)
    _check(plan, price, params, spent_usd)
    return kept, missing, plan, price


def _with_cut_marked(answer: Answer, request: Request) -> Answer:
    """A server's answer, cut if it has as many tokens as were allowed, whatever was kept of it."""
    if request.provider != "openai":
        return answer
    reason = cut_or(answer.finish_reason, answer.completion_tokens, request.max_tokens)
    return answer.model_copy(update={"finish_reason": reason})


def _look_up(
    requests: Sequence[Request], cache: AnswerCache
) -> tuple[dict[str, Entry], list[Request]]:
    """The cached answers by their requests' keys, and the requests without one, each once."""
    found = [(request, cache.find(request)) for request in unique(requests)]
    kept = {request.key: entry for request, entry in found if entry is not None}
    return kept, [request for request, entry in found if entry is None]


def _price(name: str, model: SampledModel, params: GenerateParams) -> Price | None:
    return read_price(Path(params.prices), name, model) if isinstance(model, OpenAIModel) else None


def _check(plan: Estimate, price: Price | None, params: GenerateParams, spent_usd: float) -> None:
    """Say what is ahead, and refuse it where it is forbidden or too dear."""
    cost = f", about {plan.cost_usd:.4f} dollars" if price else ""
    sys.stderr.write(
        f"{plan.model}: {plan.requests} requests, {plan.cached} cached, {plan.calls} calls to "
        f"make, about {plan.prompt_tokens} tokens in, at most {plan.completion_tokens} out{cost}\n"
    )
    if plan.calls and os.environ.get("PERSODPO_OFFLINE", "0") not in ("", "0"):
        raise UserError(
            f"{plan.model}: {plan.calls} of {plan.requests} answers aren't in the cache, and "
            "PERSODPO_OFFLINE forbids every call; unset it, or fetch the answers (dvc pull)."
        )
    if plan.cost_usd + spent_usd > params.max_cost_usd:
        before = f"with the {spent_usd:.4f} that this run has spent before " if spent_usd else ""
        raise UserError(
            f"{plan.model}: its {plan.calls} calls would cost about {plan.cost_usd:.4f} dollars, "
            f"{before}more than generate.max_cost_usd = {params.max_cost_usd:g}; raise it in "
            "params.yaml, or sample fewer prompts."
        )
