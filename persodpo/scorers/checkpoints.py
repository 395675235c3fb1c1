"""Loading the checkpoints behind the judges, all in float32: scores are compared with a margin."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from persodpo.errors import UserError
from persodpo.models import ADAPTER_FILE, device, locate

# Where a tokenizer doesn't know its model's limit: what BERT and its kin have.
USUAL_LIMIT = 512
PICKLED = {"pytorch_model.bin", "adapter_model.bin"}


def load_classifier(
    name: str, revision: str | None, key: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a sequence classifier, or a folder with a LoRA adapter on one.

    An adapter's folder also holds the classifier's configuration, with its labels; the
    adapter's own says which model it belongs to.

    Args:
        name: Where it is (see `persodpo.models`).
        revision: The commit of a Hugging Face id, else None.
        key: The parameter that holds the name, for messages.

    Raises:
        UserError: It can't be found or isn't a sequence classifier.
    """
    folder = _found(name, revision, key)
    try:
        if not Path(folder, ADAPTER_FILE).is_file():
            model = _whole(AutoModelForSequenceClassification, folder, revision)
            return _ready(model), AutoTokenizer.from_pretrained(folder, revision=revision)
        adapter = PeftConfig.from_pretrained(folder)
        base = _found(adapter.base_model_name_or_path, adapter.revision, f"{key}, an adapter,")
        config = AutoConfig.from_pretrained(folder)
        brought = tuple(adapter.modules_to_save or ())
        model = _whole(
            AutoModelForSequenceClassification, base, adapter.revision, brought, config=config
        )
        model = PeftModel.from_pretrained(model, folder).merge_and_unload()
        return _ready(model), AutoTokenizer.from_pretrained(base, revision=adapter.revision)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _not_loaded(name, key, "a sequence classifier", error) from error


def load_seq2seq(
    name: str, revision: str | None, key: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder-decoder model such as T5.

    Raises:
        UserError: It can't be found or isn't such a model.
    """
    folder = _found(name, revision, key)
    try:
        model = _whole(AutoModelForSeq2SeqLM, folder, revision)
        return _ready(model), AutoTokenizer.from_pretrained(folder, revision=revision)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _not_loaded(name, key, "an encoder-decoder model", error) from error


def load_encoder(name: str, revision: str | None, key: str) -> SentenceTransformer:
    """Load a sentence-transformers model.

    Raises:
        UserError: It can't be found or isn't such a model.
    """
    folder = _found(name, revision, key)
    try:
        return SentenceTransformer(
            folder,
            revision=revision,
            trust_remote_code=False,
            device=str(device()),
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _not_loaded(name, key, "a sentence encoder", error) from error


def token_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens of an input of an encoder."""
    limit = int(tokenizer.model_max_length)  # a huge number where it isn't known
    if limit > 10**6:
        limit = USUAL_LIMIT
    return min(limit, int(getattr(model.config, "max_position_embeddings", None) or limit))


def _found(name: str, revision: str | None, key: str) -> str:
    """Where a checkpoint is; peft and sentence-transformers would fall back to pickled weights."""
    folder = locate(name, revision, key)
    for file in Path(folder).rglob("*.bin") if Path(folder).is_dir() else ():
        if file.name in PICKLED and not list(file.parent.glob("*.safetensors")):
            raise UserError(
                f"{key} is {name!r}, where {file.name} holds pickled weights; save them as "
                "safetensors (docs/metrics.md shows how)."
            )
    return folder


def _whole(
    kind: Any, folder: str, revision: str | None, brought: tuple[str, ...] = (), **more: Any
) -> PreTrainedModel:
    """Load weights, none of which may be missing but those that an adapter brings.

    transformers would only warn, and draw random ones.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what is missing is told below
    try:
        model, told = kind.from_pretrained(
            folder,
            revision=revision,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **more,
        )
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(brought))
    if missing:
        raise ValueError(f"it has no weights for {missing[0]}")
    return model


def _ready(model: PreTrainedModel) -> PreTrainedModel:
    return model.eval().to(device())


def _not_loaded(name: str, key: str, what: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(
        f"{key} is {name!r}, which can't be loaded as {what} from safetensors ({reason})."
    )
