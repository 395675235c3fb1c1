"""Candidates on the validation prompts: their answers and scores.

A candidate is a baseline (a model of the pool) or a trained method. All answer
the same prompts, and a method answers as its base model does, so that what
differs is the training alone.
"""

from collections.abc import Sequence
from pathlib import Path

from persodpo.config import StageParams
from persodpo.config.evaluate import EvaluateParams
from persodpo.config.generate import GenerateParams
from persodpo.config.models import ModelParams
from persodpo.config.score import ScoreParams
from persodpo.config.sections import WordLimit
from persodpo.generate import TextAsker, generate_responses
from persodpo.records import Evaluated, Prompt
from persodpo.score import Scorers, bound_scorers, score_responses


class TrainedParams(StageParams):
    """What an evaluation needs of the training."""

    model: str
    methods: dict[str, object]


class EvaluationParams(StageParams):
    """What an evaluation needs of params.yaml."""

    evaluate: EvaluateParams
    generate: GenerateParams
    models: dict[str, ModelParams]
    sample: WordLimit
    score: ScoreParams
    scorers: Scorers
    train: TrainedParams

    def candidates(self) -> dict[str, str]:
        """All candidates, each with its key in `models`; a method has its base model's."""
        of_methods = dict.fromkeys(self.train.methods, self.train.model)
        return self.evaluate.baselines | of_methods


def evaluate_candidate(
    name: str, policy: Path, prompts: Sequence[Prompt], params: EvaluationParams
) -> list[Evaluated]:
    """Let a candidate answer all prompts once, and score the answers.

    Args:
        name: A key of `evaluate.baselines` or of `train.methods`.
        policy: The folder of a trained method's policy; a baseline has none.
        prompts: What to answer.
        params: How.

    Returns:
        One row per prompt, in the prompts' order.

    Raises:
        UserError: The candidate's model can't be found.
    """
    key = params.candidates()[name]
    generated = generate_responses(
        key,
        params.models[key],
        prompts,
        params.generate,
        params.sample.max_words,
        policy if name in params.train.methods else None,
        samples=1,
    )
    responses = [row.model_copy(update={"model": name}) for row in generated.responses]
    asker = TextAsker(params.models, params.generate, generated.metrics["spent_usd"])
    scorers = bound_scorers(params.scorers, asker)
    scores = score_responses(prompts, responses, scorers, params.score.batch_tokens)
    return [
        Evaluated(response=response, score=score)
        for response, score in zip(responses, scores, strict=True)
    ]
