"""Answers of one model of the pool to a set of prompts, by the model's backend."""

from collections.abc import Callable, Sequence

from persodpo.generation.local import answer_with_transformers
from persodpo.generation.reference import answer_with_reference
from persodpo.params import GenerateParams, ModelParams
from persodpo.records import Prompt, Response

BACKENDS: dict[str, Callable[..., list[Response]]] = {
    "transformers": answer_with_transformers,
    "reference": answer_with_reference,
}


def generate_responses(
    name: str, model: ModelParams, prompts: Sequence[Prompt], params: GenerateParams, max_words: int
) -> list[Response]:
    """Let one model answer all prompts.

    Args:
        name: The model's key in `params.yaml`.
        model: Its section there.
        prompts: What to answer.
        params: The settings that all models share.
        max_words: The most words an answer may have, as told in the prompt.

    Returns:
        One response per prompt, in the prompts' order.

    Raises:
        UserError: The model can't be found or has no chat template.
    """
    return BACKENDS[model.backend](name, model, prompts, params, max_words)
