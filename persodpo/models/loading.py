"""How models and tokenizers are loaded: onto which device, in which number format, and whole.

Weights are read from safetensors only, and no code of a checkpoint is run. Weights that a
checkpoint lacks would be drawn at random with a warning; here they are refused.
"""

import importlib.util
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from persodpo import processes
from persodpo.errors import UserError
from persodpo.models.failures import loading
from persodpo.models.locations import ADAPTER_FILE, locate

DType = Literal["auto", "float32", "bfloat16"]

PICKLED = {"pytorch_model.bin", "adapter_model.bin"}


def device() -> torch.device:
    """The accelerator if there is one, else the CPU; of several processes each has its own."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return torch.device("cpu")
    if processes.count() == 1:
        return accelerator
    # as accelerate deals them out
    index = processes.local_rank() % torch.accelerator.device_count()
    return torch.device(accelerator.type, index)


def device_name() -> str:
    """What computes here, such as `cpu AVX2` or `cuda NVIDIA H100`: other kinds round otherwise."""
    current = device()
    if current.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return f"cuda {torch.cuda.get_device_name(current)}" if current.type == "cuda" else current.type


def fast_dtype(setting: DType) -> torch.dtype:
    """The number format to compute in.

    `auto` takes bfloat16 on an accelerator and on a CPU with instructions for it
    (avx512_bf16, AMX), which multiplies it about three times as fast as float32;
    other CPUs are slower in it.
    """
    if setting != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[setting]
    if device().type != "cpu":
        return torch.bfloat16
    # private in torch 2.13, which has no public question for it
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


def load_tokenizer(name: str, revision: str | None, key: str) -> PreTrainedTokenizerBase:
    """Load a chat model's tokenizer.

    Raises:
        UserError: It can't be found or loaded, or has no chat template.
    """
    folder = locate(name, revision, key)
    with loading(name, key, "a tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, revision=revision, trust_remote_code=False
        )
    if tokenizer.chat_template is None:
        raise UserError(
            f"{key} is {name!r}, whose tokenizer has no chat template; "
            "take an instruction-tuned model."
        )
    if tokenizer.pad_token is None:
        # never attended to, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_config(name: str, revision: str | None, key: str) -> PreTrainedConfig:
    """Load a model's configuration.

    Raises:
        UserError: It can't be found or loaded.
    """
    folder = locate(name, revision, key)
    with loading(name, key, "a model"):
        return AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)


def load_causal_lm(
    name: str, revision: str | None, key: str, dtype: torch.dtype, nf4: bool = False
) -> PreTrainedModel:
    """Load a chat model's weights onto the device.

    Args:
        name: The model's name, in one of the three ways.
        revision: The commit of a Hugging Face id, else None.
        key: The file and the parameter that hold the name, for messages.
        dtype: The number format of the weights.
        nf4: Quantise the weights to 4 bits (QLoRA: Dettmers et al., NeurIPS 2023,
            arXiv:2305.14314) and compute in `dtype`.

    Raises:
        UserError: It can't be found or loaded, some of its weights are missing, or a package that
            quantises isn't installed.
    """
    folder = locate(name, revision, key)
    quantised = _nf4(dtype) if nf4 else {}
    with loading(name, key, "a chat model"):
        model = load_weights(AutoModelForCausalLM, folder, revision, dtype, **quantised)
    if not nf4:
        return model.to(device())
    for module in model.modules():
        # On a CPU with avx512_bf16 bitsandbytes would repack the weights at the first pass without
        # gradient, the reference's, into a form that can't be trained through and that only some
        # widths have.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def load_policy(
    name: str, revision: str | None, key: str, policy: Path | None, dtype: torch.dtype
) -> PreTrainedModel:
    """Load a chat model as it was trained: a whole model, or an adapter merged into its base.

    Merged, an adapter costs no time at each token; merged in float32, it loses nothing.

    Args:
        name: The base, as for `load_causal_lm`.
        revision: See there.
        key: See there.
        policy: The folder of the adapter or of the whole model; None for the base itself.
        dtype: The number format of the weights.

    Raises:
        UserError: See `load_causal_lm`.
    """
    if policy is None:
        return load_causal_lm(name, revision, key, dtype)
    if not (policy / ADAPTER_FILE).is_file():
        return load_causal_lm(str(policy), None, str(policy), dtype)
    base = load_causal_lm(name, revision, key, torch.float32)
    with loading(str(policy), "the policy", "an adapter"):
        return load_adapter(base, policy).merge_and_unload().to(dtype)


def load_adapter(model: PreTrainedModel, folder: Path, name: str = "default") -> PeftModel:
    """Put an adapter onto a model, all of whose weights must be in the folder and nothing else.

    PEFT only warns where weights are missing, and leaves them as they were drawn.

    Args:
        model: The base, or a model with other adapters already.
        folder: The adapter's.
        name: What it is called on the model.

    Raises:
        ValueError: The folder has other weights than the adapter.
        UserError: It has pickled ones only.
    """
    refuse_pickled(str(folder), str(folder), "the adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is missing is reported below
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=name)
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        saved = set(file.keys())
    # an adapter doesn't bring embeddings here, and looking for them asks a hub
    expected = set(get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False))
    if missing := expected - saved:
        raise ValueError(f"it has no weights for {min(missing)}")
    # beside these it may have whole embeddings, where these have an adapter, too
    if unknown := {each for each in saved - expected if "lora_" in each}:
        raise ValueError(f"it has unknown weights for {min(unknown)}")
    return model


def _nf4(dtype: torch.dtype) -> dict[str, Any]:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "params.yaml: train.lora.quantisation = nf4 needs the package bitsandbytes, which "
            "isn't installed; run pip install bitsandbytes, or set it to none."
        )
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
        "device_map": {"": device()},
    }


def load_weights(
    model_class: Any,
    folder: str,
    revision: str | None,
    dtype: torch.dtype,
    not_in_checkpoint: tuple[str, ...] = (),
    **options: Any,
) -> PreTrainedModel:
    """Load weights, none of which may be missing.

    Args:
        model_class: The class of transformers that loads them.
        folder: A folder, or a Hugging Face id.
        revision: The commit of the latter.
        dtype: The number format of the weights.
        not_in_checkpoint: Beginnings of the names of weights that may be missing, because an
            adapter has them.
        options: As for `from_pretrained`.

    Raises:
        ValueError: Some are missing.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is reported below
    try:
        model, info = model_class.from_pretrained(
            folder,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(key for key in info["missing_keys"] if not key.startswith(not_in_checkpoint))
    if missing:
        raise ValueError(f"it has no weights for {missing[0]}")
    return model


def refuse_pickled(name: str, folder: str, key: str) -> None:
    """Refuse a folder with pickled weights, to which peft and sentence-transformers fall back.

    Raises:
        UserError: There are such weights, and no safetensors beside them.
    """
    for file in Path(folder).rglob("*.bin") if Path(folder).is_dir() else ():
        if file.name in PICKLED and not list(file.parent.glob("*.safetensors")):
            raise UserError(
                f"{key} is {name!r}, where {file.name} holds pickled weights; save them as "
                "safetensors (docs/metrics.md shows how)."
            )
