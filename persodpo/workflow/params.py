"""The whole of `params.yaml`, with what its sections must agree on.

Every key is mandatory and every default stands in `params.yaml`, where its
meaning is explained; the types and limits of each section are in the modules beside
this one. The whole is checked at the start of each stage (see `persodpo.runner`), because
`dvc exp run -S` writes any key and any type without a question.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from persodpo.config.audit import AuditParams
from persodpo.config.evaluate import EvaluateParams
from persodpo.config.generate import GenerateParams
from persodpo.config.models import ModelParams, PolicyModel, SampledModel, TransformersModel
from persodpo.config.pair import PairingParams, ScoringParams
from persodpo.config.reading import PARAMS_FILE, read_params
from persodpo.config.report import ReportParams
from persodpo.config.sample import SampleParams
from persodpo.config.score import ScoreParams
from persodpo.config.sections import Key, Section, Text
from persodpo.config.train import BASE, TrainParams, starts
from persodpo.score import Scorers

# The tables that have a column per metric have these, too.
COLUMNS = {
    "id", "model", "sample", "raw", "contract", "answer", "words", "valid", "cut", "failed",
    "seconds", "batch_size", "computed", "repeated", "failure_ratio", "candidate", "dialogue", "n",
}  # fmt: skip
# A metric's share of the total score is the column s_<metric>, beside those of these terms.
TERMS = {"metric", "length", "format", "lfc", "total"}
# They take `-m stages.generate` as it stands, and tell each process its number by the environment.
LAUNCHERS = ("python", "accelerate", "torchrun")


class Params(Section):
    """The whole of `params.yaml`."""

    launch: Text
    sample: SampleParams
    generate: GenerateParams
    models: Annotated[dict[Key, ModelParams], Field(min_length=1)]
    pool: Annotated[list[Key], Field(min_length=1)]
    score: ScoreParams
    scorers: Scorers
    audit: AuditParams
    scoring: ScoringParams
    pairing: PairingParams
    train: TrainParams
    evaluate: EvaluateParams
    report: ReportParams

    @field_validator("launch")
    @classmethod
    def _check_launch(cls, value: str) -> str:
        if value.split()[:1] not in [[launcher] for launcher in LAUNCHERS]:
            raise ValueError(
                f"this must be a command that takes -m stages.generate, such as accelerate launch "
                f"--num_processes 2, and begins with {', '.join(LAUNCHERS[:-1])} or "
                f"{LAUNCHERS[-1]}, not {value!r}"
            )
        return value

    @model_validator(mode="after")
    def _check_references(self) -> Self:
        for path, key in [
            *((f"pool[{place}]", key) for place, key in enumerate(self.pool)),
            ("train.model", self.train.model),
            *((f"evaluate.baselines.{name}", key) for name, key in self.evaluate.baselines.items()),
        ]:
            if key not in self.models:
                raise ValueError(
                    f"{path} is {key!r}, which is no key of models; "
                    f"the keys there are {', '.join(self.models)}"
                )
        for key in self.scoring.weights:
            if key not in self.scorers:
                raise ValueError(
                    f"scoring.weights has {key!r}, which is no key of scorers; "
                    f"the keys there are {', '.join(self.scorers)}"
                )
        for name, scorer in self.scorers.items():
            if name in COLUMNS or name.startswith("s_") or name in TERMS:
                raise ValueError(
                    f"scorers.{name} has the name of another column of the tables; give the metric "
                    "another key"
                )
            for key in scorer.model_keys():
                if not isinstance(self.models.get(key), SampledModel):
                    raise ValueError(
                        f"scorers.{name}.model is {key!r}, which is no chat model that can be "
                        "asked; name a key of models with the backend openai or transformers"
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
        if self.train.methods and self.evaluate.baselines.get("base") != self.train.model:
            raise ValueError(
                f"evaluate.baselines.base must be the model that is trained, {self.train.model!r} "
                f"(train.model), not {self.evaluate.baselines.get('base')!r}"
            )
        for name, key in self.evaluate.baselines.items():
            if isinstance(self.models[key], PolicyModel):
                raise ValueError(
                    f"evaluate.baselines.{name} is {key!r}, a trained method, and each of these is "
                    "a row of the results anyway; take it out"
                )
        repeated = self.train.methods.keys() & self.evaluate.baselines.keys()
        if repeated:
            raise ValueError(
                f"{repeated.pop()!r} is a key of train.methods and of evaluate.baselines; "
                "rename one, because both name a row of the results"
            )
        return self

    @model_validator(mode="after")
    def _check_policies(self) -> Self:
        methods = self.train.methods
        for key, model in self.models.items():
            if isinstance(model, PolicyModel) and model.method not in methods:
                raise ValueError(
                    f"models.{key}.method is {model.method!r}, which is no key of train.methods; "
                    f"the keys there are {', '.join(methods)}"
                )
        for key in self.pool:
            model = self.models[key]
            if not isinstance(model, PolicyModel):
                continue
            for name in [model.method, *starts(methods, model.method)]:
                if name != BASE and methods[name].data != "golden":
                    raise ValueError(
                        f"pool names {key!r}, the method {model.method!r}, which needs the pool "
                        f"itself (train.methods.{name}.data is {methods[name].data}); name one "
                        "that is trained on golden answers alone"
                    )
        return self

    def trained_model(self) -> TransformersModel:
        """The model that the methods fine-tune."""
        model = self.models[self.train.model]
        assert isinstance(model, TransformersModel)  # checked by _check_references
        return model

    def candidates(self) -> list[str]:
        """The rows of the results: baselines first, then methods."""
        return [*self.evaluate.baselines, *self.train.methods]


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check the whole of `params.yaml`.

    Raises:
        UserError: See `persodpo.config.reading.read_params`.
    """
    return read_params(Params, path)
