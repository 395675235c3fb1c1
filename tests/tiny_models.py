"""Tiny random models with real tokenizers, for what must hold for any checkpoint."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    set_seed,
)

ROOT = Path(__file__).parent.parent


def corpus() -> list[str]:
    """Some English, to train tokenizers on."""
    return (ROOT / "data/focus/train.json").read_text(encoding="utf-8").split("\n")


def make_t5(folder: Path, vocabulary: int = 800, **shape: Any) -> None:
    """A T5 with a unigram tokenizer, as T5's own is; with two small layers if nothing is said."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("\n", " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        [*corpus(), "Yes No"] * 2,
        trainers.UnigramTrainer(vocab_size=vocabulary, special_tokens=special, unk_token="<unk>",
                                show_progress=False),
    )  # fmt: skip
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    small = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    config = T5Config(
        vocab_size=len(fast), pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        **(small | shape),
    )  # fmt: skip
    T5ForConditionalGeneration(config).eval().save_pretrained(folder)


def make_bert(folder: Path, labels: Iterable[str] | Mapping[int, str], seed: int = 0) -> None:
    """A BERT classifier with one small layer and a word-piece tokenizer."""
    id2label = dict(labels) if isinstance(labels, Mapping) else dict(enumerate(labels))
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        corpus(),
        trainers.WordPieceTrainer(vocab_size=500, special_tokens=special, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(fast), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64, initializer_range=0.2,
        num_labels=len(id2label), id2label=id2label,
        label2id={label: number for number, label in id2label.items()},
    )  # fmt: skip
    BertForSequenceClassification(config).eval().save_pretrained(folder)


def perturb(trainer: Any, size: float) -> None:
    """Move a trainer's adapter away from the identity, in the same way for every trainer."""
    set_seed(7)
    with torch.no_grad():
        for name, weight in sorted(trainer.model.named_parameters()):
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape) * size)


# As Qwen2's tokenizer cuts texts: line feeds that follow each other are one piece.
QWEN2_PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)


def make_chat_model(folder: Path, **config: Any) -> None:
    """A Llama with two small layers and a tokenizer that merges line feeds, as Qwen2's does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(
        [*corpus(), *["a\n\n\n{\n\n"] * 5000],
        trainers.BpeTrainer(
            vocab_size=700,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=special,
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(fast), "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 2048, "initializer_range": 0.5, "pad_token_id": 0,
        "eos_token_id": 2, "bos_token_id": None,
    }  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**(shape | config))).eval().save_pretrained(folder)
