"""base: the model before training, as the policy that methods start from.

Reads   the trained model's files, where it is packaged or local
Writes  artifacts/policies/base/model.json (what tells the model from any other)
Params  train.model, and of models.<train.model> what names it
"""

from persodpo.config import StageParams, read_params
from persodpo.config.models import ModelParams, TransformersModel
from persodpo.config.train import BASE
from persodpo.models.locations import identity
from persodpo.runner import ARTIFACTS, run_stage, write_json


class Train(StageParams):
    """What the stage reads of the training."""

    model: str


class Params(StageParams):
    """What the stage reads of params.yaml."""

    models: dict[str, ModelParams]
    train: Train


def main() -> None:
    """Run the stage."""
    params = read_params(Params)
    model = params.models[params.train.model]
    assert isinstance(model, TransformersModel)  # checked before the stage
    key = f"params.yaml: models.{params.train.model}.model"
    write_json(
        ARTIFACTS / f"policies/{BASE}/model.json", identity(model.model, model.revision, key)
    )


if __name__ == "__main__":
    run_stage("base", main)
