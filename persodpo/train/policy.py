"""A policy's files: what a training takes from its start's, and what it leaves as its own."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from persodpo.config.models import TransformersModel
from persodpo.config.train import LoraParams
from persodpo.errors import UserError
from persodpo.models.failures import loading
from persodpo.models.loading import load_adapter
from persodpo.models.locations import ADAPTER_FILE
from persodpo.records import write_text
from persodpo.runner import read_json

# What a checkpoint has beside the policy.
OF_THE_TRAINER = ("training_args.bin", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*",
                  "trainer_state.json")  # fmt: skip


def refuse_other_start(start: Path, method: str, lora: LoraParams | None) -> None:
    """Refuse a start that these settings wouldn't train, as a run by hand may leave it.

    Args:
        start: The folder of its policy.
        method: Its key in `train.methods`.
        lora: The adapter that is trained; None for all weights.

    Raises:
        UserError: It isn't there, or it is an adapter of another size, or a whole model where an
            adapter is trained, or the other way round.
    """
    again = f"run dvc repro train@{method}"
    file = start / ADAPTER_FILE
    if not file.is_file() and not (start / "config.json").is_file():
        raise UserError(f"{start}: there is no trained policy to start from; {again}.")
    if file.is_file() != (lora is not None):
        trained, wanted = ("an adapter", "a whole model")[:: 1 if file.is_file() else -1]
        raise UserError(
            f"{start}: the policy to start from is {trained}, and params.yaml: train.lora asks for "
            f"{wanted}; {again}."
        )
    if lora is not None:
        config = read_json(file)
        if (config["r"], config["lora_alpha"]) != (lora.r, lora.alpha):
            raise UserError(
                f"{start}: the adapter to start from has r = {config['r']} and alpha = "
                f"{config['lora_alpha']}, and params.yaml: train.lora r = {lora.r} and alpha = "
                f"{lora.alpha}; {again}."
            )


@contextmanager
def adapted(model: PreTrainedModel, adapter: Path | None) -> Iterator[None]:
    """Put an adapter onto a model for a while; without one the model stays as it is.

    Raises:
        UserError: The adapter isn't one of this model.
    """
    if adapter is None:
        yield
        return
    with loading(str(adapter), "the policy to start from", "an adapter"):
        with_adapter = load_adapter(model, adapter)
    yield
    with_adapter.unload()


def set_adapter_weights(model: PeftModel, adapter: Path) -> None:
    """Give the adapter that is trained the weights of another one of the same shape.

    Raises:
        UserError: They don't fit.
    """
    with loading(str(adapter), "the policy to start from", "an adapter"):
        weights = load_file(adapter / "adapter_model.safetensors")
        found = set_peft_model_state_dict(model, weights)
    if found.unexpected_keys or any("lora_" in key for key in found.missing_keys):
        raise UserError(
            f"{adapter}: the policy to start from has an adapter on other layers than those of "
            f"params.yaml: train.lora.targets; run dvc repro train@{adapter.name}."
        )


def make_reproducible(policy: Path, base: TransformersModel) -> None:
    """Take out of a saved policy what differs between two equal runs.

    Args:
        policy: Its folder, which may be the copy of a checkpoint.
        base: The base model, by its name in params.yaml.
    """
    for pattern in OF_THE_TRAINER:
        for file in policy.glob(pattern):
            file.unlink()
    # an empty form, not a model card
    (policy / "README.md").unlink(missing_ok=True)
    file = policy / ADAPTER_FILE
    if not file.is_file():
        return
    for other in policy.iterdir():  # an adapter's tokenizer is its base's
        if other.is_dir():
            shutil.rmtree(other)
        elif not other.name.startswith("adapter_"):
            other.unlink()
    config = json.loads(file.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.model  # not the folder of this machine
    config["revision"] = base.revision
    if isinstance(config["target_modules"], list):
        config["target_modules"] = sorted(config["target_modules"])  # PEFT has a set
    write_text(file, json.dumps(config, indent=2, sort_keys=True) + "\n")
