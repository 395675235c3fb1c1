"""Candidates on the validation prompts: their answers and scores.

A candidate is a baseline (a model of the pool) or a trained method. All answer
the same prompts, and a method answers as its base model does, so that what
differs is the training alone.
"""

from collections.abc import Sequence
from pathlib import Path

from persodpo.config.generate import GenerateParams
from persodpo.config.models import ModelParams
from persodpo.config.score import ScoreParams
from persodpo.generate import generate_responses
from persodpo.records import Evaluated, Prompt
from persodpo.score import Scorer, score_responses


def evaluate_candidate(
    name: str,
    key: str,
    model: ModelParams,
    policy: Path | None,
    prompts: Sequence[Prompt],
    generate: GenerateParams,
    scorers: dict[str, Scorer],
    score: ScoreParams,
    max_words: int,
) -> list[Evaluated]:
    """Let a candidate answer all prompts once, and score the answers.

    Args:
        name: The candidate's name in the results.
        key: The key in `models` of a baseline, or of the model that a method trained.
        model: Its section.
        policy: The folder of a trained method's policy; None for a baseline.
        prompts: What to answer.
        generate: How.
        scorers: The metrics, by their keys.
        score: How answers are scored.
        max_words: The most words an answer may have.

    Returns:
        One row per prompt, in the prompts' order.

    Raises:
        UserError: The candidate's model can't be found.
    """
    generated = generate_responses(key, model, prompts, generate, max_words, policy, samples=1)
    responses = [row.model_copy(update={"model": name}) for row in generated.responses]
    scores = score_responses(prompts, responses, scorers, score.batch_tokens)
    return [
        Evaluated(response=response, score=score)
        for response, score in zip(responses, scores, strict=True)
    ]
