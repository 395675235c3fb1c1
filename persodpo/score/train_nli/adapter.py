"""A fine-tuned classifier as a LoRA adapter of its base, which is a fraction of its size.

What training changed in a matrix W is approximated by the product of two thin ones, the
best of their rank (Eckart and Young, 1936, by singular value decomposition), in the
form of LoRA (Hu et al., 2021, arXiv:2106.09685). Layers that are small anyway are kept
as they are.

Training an adapter from the start would need no compression. It was tried on the packaged
MiniLM and reached less, but with other settings: the two weren't compared like for like.
"""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel


def adapted_layers(model: PreTrainedModel, rank: int) -> list[str]:
    """The layers whose change is compressed: the linear ones and embeddings of the encoder.

    Args:
        model: A classifier. Its pooler and the layers behind the encoder are none of them.
        rank: Layers with fewer rows or columns aren't, either.
    """
    encoder = dict(model.base_model.named_modules(prefix=model.base_model_prefix))
    return [
        name
        for name, layer in encoder.items()
        if isinstance(layer, nn.Linear | nn.Embedding)
        and min(layer.weight.shape) > rank
        and "pooler" not in name
    ]


def freeze_biases(model: PreTrainedModel, rank: int) -> None:
    """Keep the biases of the layers that will be compressed, since LoRA has none."""
    for name in adapted_layers(model, rank):
        bias = getattr(model.get_submodule(name), "bias", None)
        if bias is not None:
            bias.requires_grad = False


def as_adapter(tuned: PreTrainedModel, base: PreTrainedModel, rank: int) -> PeftModel:
    """Compress what training changed.

    Args:
        tuned: The trained classifier; biases as `freeze_biases` leaves them.
        base: The same before training; it becomes part of the result.
        rank: The rank of each layer's change.

    Returns:
        The base with the adapter, which says nearly what `tuned` says.
    """
    adapted = adapted_layers(tuned, rank)
    before = {name: base.get_submodule(name).weight.detach().clone() for name in adapted}
    whole = [
        name
        for name, layer in tuned.named_modules()
        if name not in adapted and any(True for _ in layer.parameters(recurse=False))
    ]
    model = get_peft_model(
        base,
        LoraConfig(
            task_type="SEQ_CLS",
            r=rank,
            lora_alpha=rank,
            target_modules=adapted,
            modules_to_save=list(whole),  # peft adds to it
        ),
    )
    with torch.no_grad():
        for name in adapted:
            after = tuned.get_submodule(name).weight
            left, right = _low_rank(after - before[name].to(after.device), rank)
            layer = model.base_model.model.get_submodule(name)
            if isinstance(layer.base_layer, nn.Embedding):  # LoRA's product is transposed there
                layer.lora_embedding_A["default"].copy_(left.T)
                layer.lora_embedding_B["default"].copy_(right.T)
            else:
                layer.lora_B["default"].weight.copy_(left)
                layer.lora_A["default"].weight.copy_(right)
        for name in whole:
            layer = model.base_model.model.get_submodule(name)
            layer.modules_to_save["default"].load_state_dict(tuned.get_submodule(name).state_dict())
    return model


def _low_rank(change: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two matrices, (rows, rank) and (rank, columns), whose product is nearest to a change."""
    left, sizes, right = torch.linalg.svd(change, full_matrices=False)
    root = sizes[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]
