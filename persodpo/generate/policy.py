"""The backend `policy`: a trained method that answers the training prompts itself.

It is the model that was trained, with the method's policy in the place of its weights and the
decoding of its own section, so it is asked as any model on this machine.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from persodpo.config.models import ModelParams, PolicyModel, TransformersModel


class Answering(NamedTuple):
    """A model of the catalogue, as it is asked.

    Attributes:
        model: Its section; of a policy, that of the trained model with the policy's decoding.
        policy: The folder of the policy; None for any other model.
        weights_key: Whose weights they are: a key of `models`.
    """

    model: ModelParams
    policy: Path | None
    weights_key: str


def answering_model(
    key: str, models: Mapping[str, ModelParams], trained: str, artifacts: Path
) -> Answering:
    """Find out which weights answer for a key of `models`, and with which decoding.

    Args:
        key: The key.
        models: All sections.
        trained: The key of the model that is trained.
        artifacts: The folder that has `policies/<method>`.
    """
    model = models[key]
    if not isinstance(model, PolicyModel):
        return Answering(model, None, key)
    base = models[trained]
    assert isinstance(base, TransformersModel)  # checked before the stage
    return Answering(model.on(base), artifacts / f"policies/{model.method}", trained)
