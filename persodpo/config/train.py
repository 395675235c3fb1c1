"""The section `train` of `params.yaml`: the training that all methods share, and the methods.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/training.md.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from persodpo.config.sections import Key, Section, Seed, Text

# sigmoid is DPO's loss; linear is the paper's equation (2) to the letter (see docs/training.md).
LossKind = Literal["sigmoid", "linear"]


class MethodParams(Section):
    """One way to train: a pair set, a loss and a learning rate."""

    pairs: Literal["dpo", "persodpo"]
    loss: LossKind
    weight: Literal["score", "none", "margin_offset"]
    sft_weight: NonNegativeFloat
    learning_rate: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.loss == "linear" and self.weight == "margin_offset":
            raise ValueError(
                "weight is margin_offset, and loss is linear, whose gradient no offset changes; "
                "take score or none, or loss: sigmoid"
            )
        return self


class LoraParams(Section):
    """The adapter that is trained in the place of all weights."""

    r: PositiveInt
    alpha: PositiveInt
    targets: Literal["all-linear"] | Annotated[list[Text], Field(min_length=1)]
    quantisation: Literal["none", "nf4"]


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
    weight_temperature: PositiveFloat
    weight_normalisation: Literal["none", "mean_one"]
    max_length: PositiveInt
    layout: Literal["auto", "shared", "separate"]
    lora: LoraParams | None
    dtype: Literal["auto", "float32", "bfloat16"]
    gradient_checkpointing: bool
    held_out: Annotated[float, Field(ge=0, lt=1)]
    eval_steps: PositiveInt
    early_stopping: PositiveInt | None
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
        return self
