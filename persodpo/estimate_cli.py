"""What all calls of a params.yaml will take and cost: of the pool, the baselines and the judges."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from persodpo.config.models import SampledModel
from persodpo.generate import AnswerCache, estimate_model, estimate_texts
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
    valid answer; where a model hasn't answered yet, its answers are taken to be as long as the
    golden ones, and all valid.

    Args:
        params: All parameters.
        artifacts: The folder with the answers that there are.

    Returns:
        One row per model and job, with the fields of `persodpo.generate.cost.Estimate`; and
        whether answers that don't exist yet were taken into account.
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
    rows = [
        estimate_model(
            job.key, params.models[job.key], job.prompts, params.generate, limit, cache, job.samples
        )._replace(model=job.label)
        for job in [*pool, *baselines]
    ]
    assumed = False
    for judge in dict.fromkeys(
        key for each in params.scorers.values() for key in each.model_keys()
    ):
        model = params.models[judge]
        assert isinstance(model, SampledModel)  # checked with the parameters
        for job in [*pool, *baselines, *methods]:
            assumed |= not job.answers.is_file()
            texts = list(dict.fromkeys(_judge_texts(judge, job, params)))
            found = estimate_texts(judge, model, texts, params.generate, cache)
            rows.append(found._replace(model=f"{judge} judges {job.label}"))
    return pd.DataFrame(rows), assumed


def _judge_texts(judge: str, job: _Job, params: Params) -> Iterator[str]:
    """What a judge is asked about the answers of a job."""
    prompts, answers = _answers(job, params)
    for key, scorer in params.scorers.items():
        if judge in scorer.model_keys():
            yield from scorer.texts(f"params.yaml: scorers.{key}", prompts, answers)


def _answers(job: _Job, params: Params) -> tuple[list[Prompt], list[str]]:
    """The valid answers of a job with their prompts, or golden ones in their place."""
    by_id = {prompt.id: prompt for prompt in job.prompts}
    if job.answers.is_file():
        if job.answers.parent.name == "responses":
            rows = read_rows(job.answers, Response)
        else:
            rows = [row.response for row in read_rows(job.answers, Evaluated)]
        known = [row for row in rows if row.contract == "valid" and row.id in by_id]
        return [by_id[row.id] for row in known], [row.answer or "" for row in known]
    model = params.models[job.key]
    samples = job.samples or (model.samples if isinstance(model, SampledModel) else 1)
    # told apart, since no two answers are the same request
    pairs = [
        (prompt, f"{prompt.golden_answer} ({sample})")
        for prompt in job.prompts
        for sample in range(samples)
    ]
    return [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
