"""What all calls of a params.yaml will take and cost: of the pool, the baselines and the judges."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from persodpo.config.models import PolicyModel, SampledModel
from persodpo.generate import AnswerCache, answering_model, estimate_model, estimate_texts
from persodpo.records import Evaluated, Prompt, Response, read_rows
from persodpo.sample import sample_prompts
from persodpo.workflow import Params


class _Job(NamedTuple):
    """Who answers which prompts how often."""

    label: str
    key: str
    prompts: Sequence[Prompt]
    samples: int | None
    answers: Path


def estimate_calls(params: Params, artifacts: Path) -> tuple[pd.DataFrame, bool]:
    """Estimate every call, without making one.

    The prompts are drawn anew: the training prompts for each model of the pool, the validation
    prompts for each baseline. Trained methods answer on this machine. A judge is asked about every
    valid answer; an answer that doesn't exist yet is taken to be valid and as long as allowed.

    Args:
        params: All parameters.
        artifacts: The folder with the answers that there are.

    Returns:
        One row per model and job, with the fields of `persodpo.generate.cost.Estimate`; and
        whether a judge is asked about answers that don't exist yet.
    """
    train, valid = sample_prompts(params.sample)
    pool = [
        _Job(key, key, train, None, artifacts / f"responses/{key}.jsonl") for key in params.pool
    ]
    baselines = [
        _Job(f"{name} (baseline)", key, valid, 1, artifacts / f"evaluations/{name}.jsonl")
        for name, key in params.evaluate.baselines.items()
    ]
    methods = [
        _Job(f"{name} (method)", params.train.model, valid, 1,
             artifacts / f"evaluations/{name}.jsonl")
        for name in params.train.methods
    ]  # fmt: skip
    cache, limit = AnswerCache(), params.sample.max_words
    rows = []
    for job in [*pool, *baselines]:
        asked = answering_model(job.key, params.models, params.train.model, artifacts)
        found = estimate_model(
            asked.weights_key,
            asked.model,
            job.prompts,
            params.generate,
            limit,
            cache,
            job.samples,
            asked.policy,
        )
        rows.append(found._replace(model=job.label))
    assumed = False
    for judge in dict.fromkeys(
        key for each in params.scorers.values() for key in each.model_keys()
    ):
        model = params.models[judge]
        assert isinstance(model, SampledModel)  # checked with the parameters
        for job in [*pool, *baselines, *methods]:
            existing, missing = _answers(job, params)
            assumed |= bool(missing)
            texts = list(dict.fromkeys(_judge_texts(judge, [*existing, *missing], params)))
            found = estimate_texts(judge, model, texts, params.generate, cache)
            rows.append(found._replace(model=f"{judge} judges {job.label}"))
    return pd.DataFrame(rows), assumed


def _judge_texts(
    judge: str, answers: Sequence[tuple[Prompt, str]], params: Params
) -> Iterator[str]:
    """What a judge is asked about valid answers to prompts."""
    prompts, texts = [prompt for prompt, _ in answers], [text for _, text in answers]
    for key, scorer in params.scorers.items():
        if judge in scorer.model_keys():
            yield from scorer.texts(f"params.yaml: scorers.{key}", prompts, texts)


def _answers(
    job: _Job, params: Params
) -> tuple[list[tuple[Prompt, str]], list[tuple[Prompt, str]]]:
    """The valid answers of a job with their prompts, and what those to come are taken for."""
    rows: list[Response] = []
    if job.answers.is_file() and job.answers.parent.name == "responses":
        rows = read_rows(job.answers, Response)
    elif job.answers.is_file():
        rows = [row.response for row in read_rows(job.answers, Evaluated)]
    by_request = {(row.id, row.sample): row for row in rows}
    model = params.models[job.key]
    own = model.samples if isinstance(model, SampledModel | PolicyModel) else 1
    samples = job.samples or own
    existing, missing = [], []
    for prompt, sample in itertools.product(job.prompts, range(samples)):
        row = by_request.get((prompt.id, sample))
        if row is None:
            # as many words as allowed; told apart, since no two answers are the same request
            words = [prompt.id, str(sample), *["words"] * (params.sample.max_words - 2)]
            missing.append((prompt, " ".join(words)))
        elif row.contract == "valid":
            existing.append((prompt, row.answer or ""))
    return existing, missing
