"""Answers of one model to a set of prompts, by the model's backend, no call paid twice.

A backend either reads answers that exist or calls a model.
Before the first call the cache is asked and the cost is estimated; every answer
is in the cache as soon as it is received.

Under several processes the main one looks into the cache and decides what is asked;
then a model on this machine is asked by all of them, each a share, and a server by the
main one.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from persodpo import processes
from persodpo.config.generate import GenerateParams
from persodpo.config.models import (
    LoggedModel,
    ModelParams,
    OpenAIModel,
    SampledModel,
    TransformersModel,
)
from persodpo.errors import UserError
from persodpo.generate.cache import AnswerCache
from persodpo.generate.cost import Estimate, Price, estimate, read_price
from persodpo.generate.golden import read_golden
from persodpo.generate.logged import read_logged
from persodpo.generate.reply import cut_or
from persodpo.generate.request import Request, sample_requests, unique
from persodpo.generate.served import ServedModel
from persodpo.generate.tally import Tally, generation_metrics
from persodpo.models.thoughts import split_thoughts
from persodpo.prompts import parse_response
from persodpo.records import Answer, Prompt, Response


class Caller(Protocol):
    """A backend that calls a model."""

    def requests(self, prompts: Sequence[Prompt], max_words: int) -> list[Request]:
        """One request per prompt, in the prompts' order; nothing is called."""

    def answer(self, requests: Sequence[Request], tally: Tally) -> None:
        """Call the model and hand each answer to `tally.store` as soon as it is received.

        Called in every process with the same requests; what this one keeps is its share.
        """


def make_caller(
    name: str, model: SampledModel, params: GenerateParams, policy: Path | None = None
) -> Caller:
    """The backend of a model that is called.

    Each is imported late, because OpenAI's client and torch take seconds that the others need not
    wait.
    """
    if isinstance(model, OpenAIModel):
        from persodpo.generate.remote import OpenAICaller  # noqa: PLC0415

        return OpenAICaller(name, model, params)
    assert isinstance(model, TransformersModel)
    from persodpo.generate.local import TransformersCaller  # noqa: PLC0415

    return TransformersCaller(name, model, params, policy)


# About so many tokens a word of English and the JSON around an answer take.
TOKENS_PER_WORD = 1.4
JSON_TOKENS = 10


class Generated(NamedTuple):
    """A model's responses, in the prompts' order, and numbers about them."""

    responses: list[Response]
    metrics: dict[str, Any]


def generate_responses(
    name: str,
    model: ModelParams,
    prompts: Sequence[Prompt],
    params: GenerateParams,
    max_words: int,
    policy: Path | None = None,
    samples: int | None = None,
) -> Generated:
    """Let one model answer all prompts.

    Args:
        name: The model's key in `params.yaml`.
        model: Its section there.
        prompts: What to answer, at least one.
        params: The settings that all models share.
        max_words: The most words an answer may have, as told in the prompt.
        policy: The folder of the model as it was trained, for the backend transformers.
        samples: How many answers to each prompt; None takes the model's `samples`.

    Returns:
        One response per prompt and sample; those to a prompt stand together.

    Raises:
        UserError: The model can't be found or has no chat template; calls are forbidden,
            would cost too much, or stay without an answer; too many prompts are refused; or another
            model answers under the same name. What was answered is kept.
    """
    if not isinstance(model, SampledModel):
        if isinstance(model, LoggedModel):
            answers = read_logged(name, model, prompts)
        else:
            answers = read_golden(prompts)
        asked = [(prompt.id, 0) for prompt in prompts]
        rows = _responses(name, asked, answers, [None] * len(prompts), params)
        return Generated(rows, generation_metrics(rows, None, None))
    caller = make_caller(name, model, params, policy)
    samples = samples or model.samples
    requests = processes.from_main(
        lambda: sample_requests(caller.requests(prompts, max_words), samples)
    )
    asked = [(prompt.id, sample) for prompt in prompts for sample in range(samples)]
    if processes.is_main():
        _warn_low_cap(name, requests[0].max_tokens, max_words)
    cache = AnswerCache()
    # the other processes ask under the main one's lock, and wait for it in from_main
    with cache.asking(requests[0]) if processes.is_main() else contextlib.nullcontext():
        known, missing, plan, price = processes.from_main(
            lambda: _prepare(name, model, requests, params, cache)
        )
        prompt_ids = {r.key: id_ for r, (id_, _) in zip(requests[::-1], asked[::-1], strict=True)}
        with Tally(plan, cache, price, params.max_cost_usd, prompt_ids, known) as tally:
            if missing:
                caller.answer(missing, tally)
            tally.combine()
    known |= tally.answers
    answers = [_with_cut_marked(known[request.key], request) for request in requests]
    keys = [None if request.key in tally.uncached else request.key for request in requests]
    rows = _responses(name, asked, answers, keys, params)
    if processes.is_main():
        _warn_lost_in_thoughts(name, model, rows)
    return Generated(rows, generation_metrics(rows, tally, price))


def estimate_model(
    name: str,
    model: ModelParams,
    prompts: Sequence[Prompt],
    params: GenerateParams,
    max_words: int,
    cache: AnswerCache,
    samples: int | None = None,
) -> Estimate:
    """Tell what `generate_responses` would take, without a call.

    Raises:
        UserError: The model or its price can't be found, or a cached answer is damaged.
    """
    if not isinstance(model, SampledModel):
        return Estimate(name, 0, 0, 0, 0, 0, 0.0)
    requests = sample_requests(
        make_caller(name, model, params).requests(prompts, max_words),
        samples or model.samples,
    )
    known, missing = _look_up(requests, cache)
    return estimate(name, len(known) + len(missing), missing, _price(name, model, params))


def _prepare(
    name: str,
    model: ModelParams,
    requests: Sequence[Request],
    params: GenerateParams,
    cache: AnswerCache,
) -> tuple[dict[str, Answer], list[Request], Estimate, Price | None]:
    """All that is settled before the first call: see `_look_up`, `estimate`, and the price."""
    price = _price(name, model, params)
    known, missing = _look_up(requests, cache)
    if isinstance(model, OpenAIModel):
        ServedModel(name, model).refuse_mixed(known.values())
    plan = estimate(name, len(known) + len(missing), missing, price)
    _check(plan, price, params)
    return known, missing, plan, price


def _with_cut_marked(answer: Answer, request: Request) -> Answer:
    """A server's answer, cut if it has as many tokens as were allowed, whatever was kept of it."""
    if request.provider != "openai":
        return answer
    reason = cut_or(answer.finish_reason, answer.completion_tokens, request.max_tokens)
    return answer.model_copy(update={"finish_reason": reason})


def _look_up(
    requests: Sequence[Request], cache: AnswerCache
) -> tuple[dict[str, Answer], list[Request]]:
    """The cached answers by key, and the requests without one, each once."""
    found = [(request, cache.get(request)) for request in unique(requests)]
    known = {request.key: answer for request, answer in found if answer is not None}
    return known, [request for request, answer in found if answer is None]


def _price(name: str, model: ModelParams, params: GenerateParams) -> Price | None:
    return read_price(Path(params.prices), name, model) if isinstance(model, OpenAIModel) else None


def _check(plan: Estimate, price: Price | None, params: GenerateParams) -> None:
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
    if plan.cost_usd > params.max_cost_usd:
        raise UserError(
            f"{plan.model}: its {plan.calls} calls would cost about {plan.cost_usd:.4f} dollars, "
            f"more than generate.max_cost_usd = {params.max_cost_usd:g}; raise it in params.yaml, "
            "or sample fewer prompts."
        )


def _responses(
    name: str,
    asked: Sequence[tuple[str, int]],
    answers: Sequence[Answer],
    keys: Sequence[str | None],
    params: GenerateParams,
) -> list[Response]:
    rows = []
    for (prompt_id, sample), answer, key in zip(asked, answers, keys, strict=True):
        # here and not where an answer is kept, so that the cache has what the model wrote
        text, thoughts = split_thoughts(answer.raw)
        thoughts = "".join(filter(None, [answer.thoughts, thoughts])) or None
        contract, answered = parse_response(text, params.contract)
        fields = answer.model_dump() | {"raw": text, "thoughts": thoughts}
        rows.append(
            Response(
                id=prompt_id,
                model=name,
                sample=sample,
                contract=contract,
                answer=answered,
                words=len((text if answered is None else answered).split()),
                request_key=key,
                **fields,
            )
        )
    return rows


def _warn_low_cap(name: str, max_tokens: int, max_words: int) -> None:
    """Say so where the prompt allows more words than the tokens will hold."""
    words = int((max_tokens - JSON_TOKENS) / TOKENS_PER_WORD)
    if words < max_words:
        sys.stderr.write(
            f"{name}: {max_tokens} tokens hold about {max(words, 0)} words, and the prompt allows "
            f"{max_words}, so answers that keep to it may be cut; raise generate.max_tokens or "
            "lower sample.max_words\n"
        )


def _warn_lost_in_thoughts(name: str, model: ModelParams, rows: Sequence[Response]) -> None:
    """Say so where most answers are empty because their tokens went into thoughts."""
    lost = [row for row in rows if not row.raw.strip() and (row.thoughts or row.reasoning_tokens)]
    if 2 * len(lost) > len(rows):
        how = "extra_body" if isinstance(model, OpenAIModel) else "chat_template_kwargs"
        sys.stderr.write(
            f"models.{name}: {len(lost)} of {len(rows)} answers are empty, because their tokens "
            f"went into thoughts; raise models.{name}.max_tokens, or switch thinking off by "
            f"models.{name}.{how} (docs/generation.md).\n"
        )
