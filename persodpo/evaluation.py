"""Candidates on the validation prompts: their answers and scores.

A candidate is a baseline (a model of the pool) or a trained method. All answer
the same prompts, and a method answers as its base model does, so that what
differs is the training alone.
"""

from collections.abc import Sequence
from pathlib import Path

from persodpo.generation import generate_responses
from persodpo.params import Params
from persodpo.records import Evaluated, Prompt
from persodpo.scorers.run import score_responses


def evaluate_candidate(
    name: str, policy: Path, prompts: Sequence[Prompt], params: Params
) -> list[Evaluated]:
    """Let a candidate answer all prompts, and score the answers.

    Args:
        name: A key of `evaluate.baselines` or of `train.methods`.
        policy: The folder of a trained method's policy; a baseline has none.
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
        policy=None if baseline else policy,
    )
    responses = [row.model_copy(update={"model": name}) for row in generated.responses]
    scores = score_responses(prompts, responses, params.scorers)
    return [
        Evaluated(response=response, score=score)
        for response, score in zip(responses, scores, strict=True)
    ]
