"""Answers of one model to a set of prompts, by the model's backend, no call paid twice.

A backend either reads answers that exist or calls a model.
How it is called stands in `persodpo.generate.asking`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from persodpo import processes
from persodpo.config.generate import GenerateParams
from persodpo.config.models import (
    LoggedModel,
    ModelParams,
    OpenAIModel,
    SampledModel,
)
from persodpo.generate.asking import ask, estimate_requests, make_caller
from persodpo.generate.cache import AnswerCache
from persodpo.generate.cost import Estimate
from persodpo.generate.golden import read_golden
from persodpo.generate.logged import read_logged
from persodpo.generate.request import sample_requests
from persodpo.generate.tally import generation_metrics
from persodpo.models.thoughts import split_thoughts
from persodpo.prompts import parse_response
from persodpo.records import Answer, Prompt, Response

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
    weights_key: str | None = None,
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
        weights_key: The key of the model whose weights these are, if it isn't the model's own.

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
    caller = make_caller(name, model, params, policy, weights_key)
    samples = samples or model.samples
    requests = processes.from_main(
        lambda: sample_requests(caller.requests(prompts, max_words), samples)
    )
    asked = [(prompt.id, sample) for prompt in prompts for sample in range(samples)]
    if processes.is_main():
        _warn_low_cap(name, requests[0].max_tokens, max_words)
    ids = [id_ for id_, _ in asked]
    answers, keys, tally, price = ask(name, model, caller, requests, ids, params)
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
    policy: Path | None = None,
) -> Estimate:
    """Tell what `generate_responses` would take, without a call.

    A policy that isn't trained yet has no cached answers.

    Raises:
        UserError: The model or its price can't be found, or a cached answer is damaged.
    """
    if not isinstance(model, SampledModel):
        return Estimate(name, 0, 0, 0, 0, 0, 0.0)
    requests = sample_requests(
        make_caller(name, model, params, policy).requests(prompts, max_words),
        samples or model.samples,
    )
    known = cache if policy is None or policy.is_dir() else None
    return estimate_requests(name, model, requests, params, known)


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
