"""The section `train` of `params.yaml`: the training that all methods share, and the methods.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/training.md.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from persodpo.config.sections import Key, Section, Seed, Text

# What a method starts from where it starts from no other method.
BASE = "base"

LearningRate = Annotated[float, Field(gt=0, lt=1)]


class SftMethod(Section):
    """Supervised fine-tuning: the mean token NLL of one answer to each prompt, and no pairs."""

    start: Key
    data: Literal["golden", "chosen"]
    loss: Literal["nll"]
    learning_rate: LearningRate


class PairMethod(Section):
    """Training on preference pairs: a pair set, a loss, and a weight of each pair."""

    start: Key
    data: Literal["dpo", "persodpo"]
    # sigmoid is DPO's loss; linear is the paper's equation (2) to the letter (docs/training.md).
    loss: Literal["sigmoid", "linear"]
    weight: Literal["score", "none", "margin_offset"]
    weight_temperature: float
    weight_normalisation: Literal["none", "mean_one"]
    sft_weight: NonNegativeFloat
    learning_rate: LearningRate

    @field_validator("weight_temperature")
    @classmethod
    def _check_temperature(cls, value: float) -> float:
        if value == 0:
            raise ValueError(
                "this must not be 0; above it larger differences weigh more, below it smaller ones"
            )
        return value

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.weight != "margin_offset":
            return self
        if self.loss == "linear":
            raise ValueError(
                "weight is margin_offset, and loss is linear, whose gradient no offset changes; "
                "take score or none, or loss: sigmoid"
            )
        if self.weight_temperature < 0:
            raise ValueError(
                "weight is margin_offset, and weight_temperature is below 0, which would ask for a "
                "smaller margin the better the chosen answer is; take one above 0"
            )
        return self


MethodParams = Annotated[SftMethod | PairMethod, Field(discriminator="loss")]


class LoraParams(Section):
    """The adapter that is trained in the place of all weights."""

    r: PositiveInt
    alpha: PositiveInt
    targets: Literal["all-linear"] | Annotated[list[Text], Field(min_length=1)]
    quantisation: Literal["none", "nf4"]


class GuardParams(Section):
    """What is done when the chosen answers' likelihood falls (see `persodpo.train.guard`)."""

    action: Literal["none", "warn", "stop"]
    steps: PositiveInt
    share: Annotated[float, Field(ge=0, lt=1)]
    fall: NonNegativeFloat


class TrainParams(Section):
    """The training that all methods share, and the methods."""

    model: Key
    epochs: PositiveFloat
    batch_unit: Literal["prompts", "pairs"]
    batch_size: PositiveInt
    passes: PositiveInt
    scheduler: Literal["linear", "cosine", "constant_with_warmup"]
    warmup_steps: NonNegativeInt
    max_grad_norm: PositiveFloat
    beta: PositiveFloat
    max_length: PositiveInt
    layout: Literal["auto", "shared", "separate"]
    lora: LoraParams | None
    dtype: Literal["auto", "float32", "bfloat16"]
    gradient_checkpointing: bool
    held_out: Annotated[float, Field(ge=0, lt=1)]
    eval_steps: PositiveInt
    early_stopping: PositiveInt | None
    guard: GuardParams
    checkpoint_steps: PositiveInt
    seed: Seed
    methods: dict[Key, MethodParams]

    @model_validator(mode="after")
    def _check_early_stopping(self) -> Self:
        if self.early_stopping is not None and not self.held_out:
            raise ValueError(
                "early_stopping looks at the loss of held-out pairs, and held_out is 0; set "
                "held_out to a share of the prompts, such as 0.1"
            )
        if self.early_stopping is not None and self.guard.action == "stop":
            raise ValueError(
                "early_stopping and guard.action = stop each choose the policy that is taken; set "
                "early_stopping to null, or guard.action to warn"
            )
        return self

    @model_validator(mode="after")
    def _check_starts(self) -> Self:
        if BASE in self.methods:
            raise ValueError(
                f"methods has the key {BASE!r}, which is the model before training; rename it"
            )
        for name, method in self.methods.items():
            if method.start not in (BASE, *self.methods):
                raise ValueError(
                    f"methods.{name}.start is {method.start!r}, which is neither {BASE} nor a "
                    f"method; the methods are {', '.join(self.methods)}"
                )
        for name in self.methods:
            if starts(self.methods, name)[-1] != BASE:
                raise ValueError(
                    f"methods.{name}.start leads back to a method that starts from it "
                    f"({' <- '.join([name, *starts(self.methods, name)])}); let one of them start "
                    f"from {BASE}"
                )
        return self


def starts(methods: Mapping[str, SftMethod | PairMethod], name: str) -> list[str]:
    """What a method starts from, what that starts from, and so on, up to `base`.

    In a ring the list ends with the method that would come a second time.
    """
    found: list[str] = []
    while name != BASE and name not in found[:-1]:
        name = methods[name].start
        found.append(name)
    return found
