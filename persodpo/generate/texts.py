"""Texts that a model of the catalogue is asked about, such as a judge's questions.

They go the way of all requests: through the cache, the estimate, the budget and the limits.
"""

from collections.abc import Mapping, Sequence

from persodpo import processes
from persodpo.config.generate import GenerateParams
from persodpo.config.models import ModelParams, SampledModel
from persodpo.generate.asking import ask, estimate_requests, make_caller
from persodpo.generate.cache import AnswerCache
from persodpo.generate.cost import Estimate
from persodpo.generate.request import Request
from persodpo.models.thoughts import split_thoughts
from persodpo.records import Prompt


class TextAsker:
    """Asks models of the catalogue by their keys; a stage's run has one, and so one budget.

    Args:
        models: The sections of the models.
        params: The settings that all models share.
        spent_usd: What the run has spent before.
    """

    def __init__(
        self, models: Mapping[str, ModelParams], params: GenerateParams, spent_usd: float = 0.0
    ) -> None:
        self.models = models
        self.params = params
        self.spent_usd = spent_usd
        self._replies: dict[tuple[str, str], str] = {}

    def __call__(self, name: str, texts: Sequence[str]) -> list[str]:
        """Let a model answer texts, none of them twice, not even one that was refused.

        Args:
            name: The model's key in `params.yaml`.
            texts: The user's message of each request; every process may bring others.

        Returns:
            What the model says to each, without its thoughts; empty where the server refused.

        Raises:
            UserError: See `persodpo.generate.asking.ask`.
        """
        every = dict.fromkeys(processes.gather(list(texts)))
        new = [text for text in every if (name, text) not in self._replies]
        if new:
            for text, reply in zip(new, self._ask(name, new), strict=True):
                self._replies[name, text] = reply
        return [self._replies[name, text] for text in texts]

    def _ask(self, name: str, texts: Sequence[str]) -> list[str]:
        model = self.models[name]
        assert isinstance(model, SampledModel)  # checked before the stage
        caller, prompts = make_caller(name, _whole(model), self.params), _prompts(texts)
        requests = processes.from_main(lambda: caller.requests(prompts, max_words=1))
        ids = [prompt.id for prompt in prompts]
        asked = ask(name, model, caller, requests, ids, self.params, self.spent_usd)
        self.spent_usd += asked.tally.cost_usd
        return [split_thoughts(answer.raw)[0] for answer in asked.answers]


def estimate_texts(
    name: str,
    model: SampledModel,
    texts: Sequence[str],
    params: GenerateParams,
    cache: AnswerCache,
) -> Estimate:
    """Tell what a `TextAsker` would take, without a call.

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
