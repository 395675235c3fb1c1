"""Loading the checkpoints behind the judges, all in float32: scores are compared with a margin."""

from pathlib import Path

import torch
from peft import PeftConfig
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from persodpo.models.failures import loading
from persodpo.models.loading import device, load_adapter, load_weights, refuse_pickled
from persodpo.models.locations import ADAPTER_FILE, locate

# Where a tokenizer doesn't know its model's limit: what BERT and its kin have.
USUAL_LIMIT = 512


def load_classifier(
    name: str, revision: str | None, key: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a sequence classifier, or a folder with a LoRA adapter on one.

    An adapter's folder also holds the classifier's configuration, with its labels; the
    adapter's own says which model it belongs to.

    Args:
        name: Where it is (see `persodpo.models.locations`).
        revision: The commit of a Hugging Face id, else None.
        key: The parameter that holds the name, for messages.

    Raises:
        UserError: It can't be found or isn't a sequence classifier.
    """
    folder = _found(name, revision, key)
    with loading(name, key, "a sequence classifier"):
        if not Path(folder, ADAPTER_FILE).is_file():
            model = load_weights(
                AutoModelForSequenceClassification, folder, revision, torch.float32
            )
            return _ready(model), AutoTokenizer.from_pretrained(folder, revision=revision)
        adapter = PeftConfig.from_pretrained(folder)
        base = _found(adapter.base_model_name_or_path, adapter.revision, f"{key}, an adapter,")
        config = AutoConfig.from_pretrained(folder)
        model = load_weights(
            AutoModelForSequenceClassification,
            base,
            adapter.revision,
            torch.float32,
            not_in_checkpoint=tuple(adapter.modules_to_save or ()),
            config=config,
        )
        model = load_adapter(model, Path(folder)).merge_and_unload()
        return _ready(model), AutoTokenizer.from_pretrained(base, revision=adapter.revision)


def load_seq2seq(
    name: str, revision: str | None, key: str
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load an encoder-decoder model such as T5.

    Raises:
        UserError: It can't be found or isn't such a model.
    """
    folder = _found(name, revision, key)
    with loading(name, key, "an encoder-decoder model"):
        model = load_weights(AutoModelForSeq2SeqLM, folder, revision, torch.float32)
        return _ready(model), AutoTokenizer.from_pretrained(folder, revision=revision)


def load_encoder(name: str, revision: str | None, key: str) -> SentenceTransformer:
    """Load a sentence-transformers model.

    Raises:
        UserError: It can't be found or isn't such a model.
    """
    folder = _found(name, revision, key)
    with loading(name, key, "a sentence encoder"):
        return SentenceTransformer(
            folder,
            revision=revision,
            trust_remote_code=False,
            device=str(device()),
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )


def token_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Most tokens of an input of an encoder."""
    limit = int(tokenizer.model_max_length)  # a huge number where it isn't known
    if limit > 10**6:
        limit = USUAL_LIMIT
    return min(limit, int(getattr(model.config, "max_position_embeddings", None) or limit))


def _found(name: str, revision: str | None, key: str) -> str:
    folder = locate(name, revision, key)
    refuse_pickled(name, folder, key)
    return folder


def _ready(model: PreTrainedModel) -> PreTrainedModel:
    return model.eval().to(device())
