"""Texts that a model of the catalogue is asked about, such as a judge's questions.

They go the way of all requests: through the cache, the estimate, the budget and the limits.
"""

from collections.abc import Callable, Mapping, Sequence

from persodpo import processes
from persodpo.config.generate import GenerateParams
from persodpo.config.models import ModelParams, SampledModel
from persodpo.generate.asking import ask, estimate_requests, make_caller
from persodpo.generate.cache import AnswerCache
from persodpo.generate.cost import Estimate
from persodpo.generate.request import Request
from persodpo.models.thoughts import split_thoughts
from persodpo.records import Prompt


def text_asker(
    models: Mapping[str, ModelParams], params: GenerateParams
) -> Callable[[str, Sequence[str]], list[str]]:
    """Make a function that asks a model of the catalogue by its key; see `answer_texts`.

    Args:
        models: The sections of the models.
        params: The settings that all models share.
    """

    def ask_model(name: str, texts: Sequence[str]) -> list[str]:
        model = models[name]
        assert isinstance(model, SampledModel)  # checked before the stage
        return answer_texts(name, model, texts, params)

    return ask_model


def answer_texts(
    name: str, model: SampledModel, texts: Sequence[str], params: GenerateParams
) -> list[str]:
    """Let a model answer texts, none of them twice.

    Args:
        name: The model's key in `params.yaml`.
        model: Its section there.
        texts: The user's message of each request; every process may bring others.
        params: The settings that all models share.

    Returns:
        What the model says to each, without its thoughts; empty where the server refused.

    Raises:
        UserError: See `persodpo.generate.asking.ask`.
    """
    every = list(dict.fromkeys(processes.gather(list(texts))))
    if not every:
        return []
    caller = make_caller(name, _whole(model), params)
    requests = processes.from_main(lambda: caller.requests(_prompts(every), max_words=1))
    asked = ask(name, model, caller, requests, [prompt.id for prompt in _prompts(every)], params)
    answers = [split_thoughts(answer.raw)[0] for answer in asked.answers]
    by_text = dict(zip(every, answers, strict=True))
    return [by_text[text] for text in texts]


def estimate_texts(
    name: str,
    model: SampledModel,
    texts: Sequence[str],
    params: GenerateParams,
    cache: AnswerCache,
) -> Estimate:
    """Tell what `answer_texts` would take, without a call.

    Raises:
        UserError: The model or its price can't be found, or a cached answer is damaged.
    """
    requests: list[Request] = []
    if texts:
        requests = make_caller(name, _whole(model), params).requests(_prompts(texts), max_words=1)
    return estimate_requests(name, model, requests, params, cache)


def _whole(model: SampledModel) -> SampledModel:
    """The model as it reads a prompt's text to the letter, whatever it is given in the pool."""
    return model.model_copy(update={"persona": True})


def _prompts(texts: Sequence[str]) -> list[Prompt]:
    return [
        Prompt(id=f"text {number}", persona=[], turns=[], golden_answer="", text=text)
        for number, text in enumerate(texts, start=1)
    ]
