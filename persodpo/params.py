"""The parameters of the workflow: `params.yaml`, read and checked in one place.

Every key is mandatory and every default stands in `params.yaml`, where its
meaning is explained; here stand the types and the limits. `load_params` is
called at the start of each stage and checks the whole file, because
`dvc exp run -S` writes any key and any type without a question.
"""

import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from persodpo.errors import UserError
from persodpo.model_params import (
    Key,
    ModelParams,
    Section,
    Seed,
    Text,
    TransformersModel,
)
from persodpo.pair_params import PairingParams, ScoringParams
from persodpo.prompts import ContractRule
from persodpo.scorer_params import ScorersParams
from persodpo.train_params import TrainParams
from persodpo.yaml12 import load_yaml

PARAMS_FILE = Path("params.yaml")
# They take `-m stages.generate` as it stands, and tell each process its number by the environment.
LAUNCHERS = ("python", "accelerate", "torchrun")

SectionT = TypeVar("SectionT", bound=Section)


def _day(value: str) -> str:
    try:
        # fromisoformat also takes weeks and days without dashes
        is_day = str(datetime.date.fromisoformat(value)) == value
    except ValueError:
        is_day = False
    if not is_day:
        raise ValueError(f"this must be a day such as 2026-01-01, not {value!r}")
    return value


class SampleParams(Section):
    """Which dialogues become prompts."""

    train_file: Text
    valid_file: Text
    n_train: PositiveInt
    n_valid: PositiveInt
    seed: Seed
    max_words: PositiveInt
    overlap: Literal["refuse", "leave_out"]


class GenerateParams(Section):
    """How the models of the pool and the evaluated candidates answer."""

    max_tokens: PositiveInt
    contract: ContractRule
    date: Annotated[str, AfterValidator(_day)]
    batch_size: PositiveInt | None
    dtype: Literal["auto", "float32", "bfloat16"]
    max_refused: NonNegativeInt
    max_cost_usd: NonNegativeFloat
    prices: Text


class EvaluateParams(Section):
    """Who is compared with the trained methods on the validation prompts."""

    baselines: Annotated[dict[Key, Key], Field(min_length=1)]


class Params(Section):
    """The whole of `params.yaml`."""

    launch: Text
    sample: SampleParams
    generate: GenerateParams
    models: Annotated[dict[Key, ModelParams], Field(min_length=1)]
    pool: Annotated[list[Key], Field(min_length=1)]
    scorers: ScorersParams
    scoring: ScoringParams
    pairing: PairingParams
    train: TrainParams
    evaluate: EvaluateParams

    @field_validator("launch")
    @classmethod
    def _takes_a_module(cls, value: str) -> str:
        if value.split()[:1] not in [[launcher] for launcher in LAUNCHERS]:
            raise ValueError(
                f"this must be a command that takes -m stages.generate, such as accelerate launch "
                f"--num_processes 2, and begins with {', '.join(LAUNCHERS[:-1])} or "
                f"{LAUNCHERS[-1]}, not {value!r}"
            )
        return value

    @model_validator(mode="after")
    def _references(self) -> Self:
        for where, key in [
            *((f"pool[{place}]", key) for place, key in enumerate(self.pool)),
            ("train.model", self.train.model),
            *((f"evaluate.baselines.{name}", key) for name, key in self.evaluate.baselines.items()),
        ]:
            if key not in self.models:
                raise ValueError(
                    f"{where} is {key!r}, which is no key of models; "
                    f"the keys there are {', '.join(self.models)}"
                )
        if len(set(self.pool)) < len(self.pool):
            raise ValueError("pool names a model twice; take one of them out")
        target = self.scoring.length.target
        if not isinstance(target, str) and target > self.sample.max_words:
            raise ValueError(
                f"scoring.length.target is {target:g}, above sample.max_words, which is "
                f"{self.sample.max_words}; no answer may be that long"
            )
        if not isinstance(self.models[self.train.model], TransformersModel):
            raise ValueError(
                f"train.model is {self.train.model!r}, whose backend has no weights to train; "
                "name a model with backend transformers"
            )
        if not self.trained_model().persona:
            raise ValueError(
                f"models.{self.train.model}.persona is false, and the model is trained "
                "(train.model); its policies would be trained with the persona and evaluated "
                "without it; set it to true, or train another key of models"
            )
        if self.evaluate.baselines.get("base") != self.train.model:
            raise ValueError(
                f"evaluate.baselines.base must be the model that is trained, {self.train.model!r} "
                f"(train.model), not {self.evaluate.baselines.get('base')!r}"
            )
        both = self.train.methods.keys() & self.evaluate.baselines.keys()
        if both:
            raise ValueError(
                f"{both.pop()!r} is a key of train.methods and of evaluate.baselines; "
                "rename one, because both name a row of the results"
            )
        return self

    def trained_model(self) -> TransformersModel:
        """The model that the methods fine-tune."""
        model = self.models[self.train.model]
        assert isinstance(model, TransformersModel)  # checked by _references
        return model

    def needed_pair_sets(self) -> set[str]:
        """The pair sets that a method is trained on."""
        return {method.pairs for method in self.train.methods.values()}

    def candidates(self) -> list[str]:
        """The rows of the results: baselines first, then methods."""
        return [*self.evaluate.baselines, *self.train.methods]


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole of `params.yaml`.

    Raises:
        UserError: See `read_params`.
    """
    return read_params(path, Params)


def read_params(path: Path, whole: type[SectionT]) -> SectionT:
    """Read a file of parameters and check it against its sections.

    Args:
        path: The file, YAML.
        whole: What it must hold.

    Raises:
        UserError: The file is missing or not YAML, a key is unknown or missing,
            or a value has the wrong type or is impossible. The message is one
            sentence and names the file and the first key at fault.
    """
    try:
        return whole.model_validate(load_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path}: {_sentence(error, whole)}.") from error


def _sentence(error: ValidationError, whole: type[Section]) -> str:
    """The first mistake of a validation as one sentence without its full stop."""
    first = error.errors()[0]
    location, section = _locate([str(part) for part in first["loc"]], whole)
    where, kind, value = ".".join(location), first["type"], first["input"]
    context = first.get("ctx", {})
    # somebody may have put a key there, or anywhere in a section that can't be told
    secret = bool({"api_key_env", "base_url", "extra_body"}.intersection(location))
    shown = "what stands there" if secret else repr(context.get("tag", value))
    more = error.error_count() - 1
    also = f" (and {more} more {'mistake' if more == 1 else 'mistakes'})" if more else ""
    match kind:
        case "extra_forbidden":
            known = ", ".join(section.model_fields)
            return f"{where} is an unknown key; the keys there are {known}{also}"
        case "missing":
            return f"{where} is missing{also}"
        case "float_type" | "float_parsing":
            return f"{where} must be a number, not {shown}{also}"
        case "int_type" | "int_from_float" | "int_parsing":
            return f"{where} must be a whole number, not {shown}{also}"
        case "bool_type":
            return f"{where} must be true or false, not {shown}{also}"
        case "string_type":
            return f"{where} must be a text, not {shown}{also}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{where or 'the file'} must be a section of keys, not {shown}{also}"
        case "list_type":
            return f"{where} must be a list, not {shown}{also}"
        case "too_short":
            return f"{where} must have at least {context['min_length']}, not {shown}{also}"
        case "finite_number":
            return f"{where} must be a finite number, not {shown}{also}"
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            return f"{where} must be {first['msg'].split('should be ')[-1]}, not {shown}{also}"
        case "literal_error":
            return f"{where} must be one of {context['expected']}, not {shown}{also}"
        case "union_tag_invalid":
            key = context["discriminator"].strip("'")
            return f"{where}.{key} must be one of {context['expected_tags']}, not {shown}{also}"
        case "union_tag_not_found":
            key = context["discriminator"].strip("'")
            return f"{where}.{key} is missing{also}"
        case "string_pattern_mismatch":
            return f"{where} may only have letters, digits, - and _ in its name{also}"
        case "value_error":
            return (f"{where}: " if where else "") + f"{context['error']}{also}"
        case _:
            return f"{where}: {first['msg']}, not {shown}{also}"


def _locate(parts: list[str], whole: type[Section]) -> tuple[list[str], Any]:
    """Where a mistake is as users see it, and the section that holds the last key.

    pydantic adds the value of `backend` or `scorer` behind the key of a section that
    these choose, and a mark behind a bad key.
    """
    shown: list[str] = []
    holder: Any = whole
    kind: Any = whole
    for part in parts:
        members = _members(kind)
        if part in members:
            kind = members[part]
        elif part != "[key]":
            shown.append(part)
            holder, kind = kind, _child(kind, part)
    return shown, holder


def _members(kind: Any) -> dict[str, Any]:
    """The sections of a union by the value of their first field, which chooses among them."""
    options = get_args(kind)
    if options and isinstance(options[0], UnionType):  # behind Annotated
        options = get_args(options[0])
    elif not isinstance(kind, UnionType):
        return {}
    return {
        get_args(next(iter(section.model_fields.values())).annotation)[0]: section
        for section in options
        if isinstance(section, type) and issubclass(section, Section) and len(options) > 1
    }


def _child(kind: Any, part: str) -> Any:
    """The type of what stands under a key."""
    if isinstance(kind, type) and issubclass(kind, Section):
        field = kind.model_fields.get(part)
        child: Any = field and field.annotation
        required = [option for option in get_args(child) if option is not NoneType]
        return required[0] if isinstance(child, UnionType) and len(required) == 1 else child
    arguments = get_args(kind)  # of a dict: its values; of an optional section: that
    return arguments[-1] if arguments and get_origin(kind) is dict else None
