"""The trained policies: where they lie, whether they are adapters, and of which base."""

from pathlib import Path

from persodpo.errors import UserError
from persodpo.models.locations import ADAPTER_FILE
from persodpo.runner import ARTIFACTS, read_json
from persodpo.workflow import Params


def policy_folder(method: str) -> Path:
    """The folder of a method's policy, as the stage train leaves it."""
    return ARTIFACTS / f"policies/{method}"


def is_adapter(method: str, params: Params) -> bool:
    """Whether a method's policy is an adapter, and not a whole model.

    Raises:
        UserError: It is neither, or an adapter of another base than `train.model`'s.
    """
    policy = policy_folder(method)
    file = policy / ADAPTER_FILE
    if not file.is_file():
        if (policy / "config.json").is_file():
            return False
        raise UserError(
            f"{policy}: there is no trained policy; run dvc repro train@{method} to train it, or "
            "dvc pull to fetch it."
        )
    config, base = read_json(file), params.trained_model()
    trained_on = config.get("base_model_name_or_path"), config.get("revision")
    if trained_on != (base.model, base.revision):
        raise UserError(
            f"{file}: the adapter was trained on {trained_on[0]!r}, revision {trained_on[1]}, and "
            f"params.yaml: models.{params.train.model} is {base.model!r}, revision "
            f"{base.revision}; run dvc repro train@{method}, or put that model back."
        )
    return True
