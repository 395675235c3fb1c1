"""Candidates on the validation prompts: their answers, scores and summary numbers.

A candidate is a baseline (a model of the pool) or a trained method. All answer
the same prompts, and a method answers as its base model does, so that what
differs is the training alone.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from persodpo.generation import generate_responses
from persodpo.params import Params
from persodpo.pool import evaluated_table
from persodpo.records import Evaluated, Prompt
from persodpo.scorers.metric import Metric
from persodpo.scorers.run import score_responses


def evaluate_candidate(
    name: str, adapter_folder: Path, prompts: Sequence[Prompt], params: Params
) -> list[Evaluated]:
    """Let a candidate answer all prompts, and score the answers.

    Args:
        name: A key of `evaluate.baselines` or of `train.methods`.
        adapter_folder: The adapter of a trained method; a baseline has none.
        prompts: What to answer.
        params: All parameters.

    Returns:
        One row per prompt, in the prompts' order.

    Raises:
        UserError: The candidate's model can't be found.
    """
    baseline = name in params.evaluate.baselines
    key = params.evaluate.baselines[name] if baseline else params.train.model
    generated = generate_responses(
        key,
        params.models[key],
        prompts,
        params.generate,
        params.sample.max_words,
        adapter=None if baseline else adapter_folder,
    )
    responses = [row.model_copy(update={"model": name}) for row in generated.responses]
    scores = score_responses(prompts, responses, params.scorers)
    return [
        Evaluated(response=response, score=score)
        for response, score in zip(responses, scores, strict=True)
    ]


def summarise(
    evaluated: Sequence[Evaluated], max_words: int, metrics: Mapping[str, Metric]
) -> dict[str, Any]:
    """Summary numbers of one candidate.

    Args:
        evaluated: Its answers with their scores, at least one.
        max_words: The most words an answer may have.
        metrics: What the values of each metric mean.

    Returns:
        `n`; `failure_ratio`, share of answers outside the JSON contract;
        `length_compliance` and `format_compliance`, shares of all answers;
        `words`, mean of the valid answers; `repeated` (see `repeated_share`) and
        `distinct_2` (see there) over all answers, of a failed one its raw text;
        `seconds`, median per response; and under `all` and `valid` each metric's
        mean and standard deviation (population) over all and over valid answers. A
        value that couldn't be computed counts as the worst over all, as it does in
        the total score, is left out over valid ones, and is counted in
        `missing_values`. A number that no answer gives is None.
    """
    scores = evaluated_table(evaluated)
    answers = [row.response.answer or row.response.raw for row in evaluated]
    valid = scores[scores["valid"]]
    seconds = pd.Series([row.response.seconds for row in evaluated], dtype=float)
    return {
        "n": len(scores),
        "failure_ratio": float(1 - scores["valid"].mean()),
        "length_compliance": float((scores["valid"] & (scores["words"] <= max_words)).mean()),
        "format_compliance": float(scores["valid"].mean()),
        "words": _number(valid["words"].mean()),
        "repeated": repeated_share(answers),
        "distinct_2": distinct_2(answers),
        "seconds": _number(seconds.median()),
        "missing_values": int(valid[list(metrics)].isna().to_numpy().sum()),
        "all": _mean_and_sd(scores.fillna({key: m.worst for key, m in metrics.items()}), metrics),
        "valid": _mean_and_sd(valid, metrics),
    }


def _mean_and_sd(
    scores: pd.DataFrame, metrics: Iterable[str]
) -> dict[str, dict[str, float | None]]:
    return {
        key: {
            "mean": _number(scores[key].astype(float).mean()),
            "sd": _number(scores[key].astype(float).std(ddof=0)),
        }
        for key in metrics
    }


def _number(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def repeated_share(answers: Sequence[str]) -> float:
    """Share of answers that were given to more than one prompt, in [0, 1]; lower is better.

    A model that has found one harmless answer for everything scores 1. Answers
    that differ in case and white space only are the same.
    """
    counts = Counter(" ".join(answer.lower().split()) for answer in answers)
    return sum(count for count in counts.values() if count > 1) / len(answers)


def distinct_2(answers: Sequence[str]) -> float | None:
    """Different word bigrams over all answers, as a share of all bigrams; higher is better.

    Source: Li et al., NAACL 2016 (arXiv:1510.03055). Words are runs of letters and
    digits, lower-cased.
    """
    bigrams = [
        bigram
        for words in (re.findall(r"\w+", answer.lower()) for answer in answers)
        for bigram in pairwise(words)
    ]
    return len(set(bigrams)) / len(bigrams) if bigrams else None
