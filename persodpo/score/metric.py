"""What a metric is: what its values mean, what it needs, and how it gets them."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from persodpo.config.sections import Section
from persodpo.records import Prompt, Response

# The texts that are judged together, such as a premise and a hypothesis.
Texts = tuple[str, ...]
# What a judge gives for them, such as three probabilities; None if it can't tell.
Judgement = list[float] | None
# From n inputs to n judgements, in their order.
Judge = Callable[[Sequence[Texts]], list[Judgement]]
# From the key of a chat model in `models`, and texts, to what it says to each.
AskModel = Callable[[str, Sequence[str]], list[str]]
Prompts = Sequence[Prompt]
Responses = Sequence[Response]
# One value per answer; None where the metric can't be computed.
Values = list[float | None]
# What a metric looks at besides the answer.
Need = Literal["persona", "last_turn", "dialogue", "golden_answer"]
# What the audit asks of a metric (see persodpo.audit.questions).
QuestionName = Literal["persona", "turns", "sentences", "opposites", "echo"]


@dataclass(frozen=True)
class Metric:
    """What the values of a metric mean.

    Attributes:
        label: Its name in tables.
        low: The lowest value it can have.
        high: The highest value it can have.
        worst: What a failed response gets (as in PersoBench's code and the paper's).
        version: Counts the changes of its definition here that change values.
        needs: What it looks at besides the answer.
        higher_is_better: Which end of the range is the good one.
        used_above: A value above it says that the answer uses the persona; None if no value does.
        contradicted_below: A value below it says that the answer contradicts the persona; None if
            no value does.
        questions: What the audit asks of it; None for all that is about what it needs.
    """

    label: str
    low: float
    high: float
    worst: float
    version: int
    needs: tuple[Need, ...] = ()
    higher_is_better: bool = True
    used_above: float | None = None
    contradicted_below: float | None = None
    questions: tuple[QuestionName, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse an impossible range."""
        if not self.low <= self.worst <= self.high or self.low == self.high:
            raise ValueError(
                f"low is {self.low:g}, worst {self.worst:g}, high {self.high:g}; worst must be "
                "from low to high, and low below high"
            )


class Scorer(Section):
    """A section of `scorers` in params.yaml: one metric, and what stands behind it.

    A kind of metric is a class below this one, with its settings as fields, in a module of its
    own. It is registered in `persodpo.score.kinds`.

    Attributes:
        can_be_asked: Whether it has a value of any text, as the audit needs; published values
            haven't.
    """

    can_be_asked: ClassVar[bool] = True

    @model_validator(mode="after")
    def _check_metric(self) -> Self:
        self.metric()
        return self

    @abstractmethod
    def metric(self) -> Metric:
        """What its values mean under these settings; without loading a model."""

    @abstractmethod
    def values(self, key: str, prompts: Prompts, responses: Responses, batch_tokens: int) -> Values:
        """Score valid responses of one model.

        Args:
            key: Of the section, such as `params.yaml: scorers.c`, for messages.
            prompts: One per response.
            responses: Shape (n,); each has an answer.
            batch_tokens: So many tokens may be judged at once.

        Returns:
            Shape (n,), in the metric's range.

        Raises:
            UserError: What stands behind the metric can't be found or used.
        """

    def lowest(self) -> float:
        """The lowest value that it may give; that of published ones may be below the range."""
        return self.metric().low

    def bound(self, ask: AskModel) -> "Scorer":
        """The metric with the means to ask a model of the catalogue; most need none."""
        return self

    def model_keys(self) -> list[str]:
        """The keys in `models` of the chat models that it asks."""
        return []

    def texts(self, key: str, prompts: Prompts, answers: Sequence[str]) -> list[str]:
        """What it asks a chat model about valid answers; nothing without one."""
        return []

    def paths(self) -> list[str]:
        """What the settings name that may be a file or a folder on this machine."""
        return []


def answers_of(responses: Responses) -> list[str]:
    """The answers of valid responses."""
    return [response.answer or "" for response in responses]
