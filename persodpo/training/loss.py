"""Log-probabilities of answers, and the score-weighted DPO loss as pure functions of them."""

import torch
import torch.nn.functional as F

from persodpo.training.collator import Batch


def shared_prompt_logps(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Log-probability of each answer given its prompt.

    Args:
        model: A causal language model.
        batch: N answers, as laid out by `SharedPromptCollator`.

    Returns:
        (N,), in nats, in float32.
    """
    output = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=batch["attention_mask"],
        logits_to_keep=int(batch["logits_to_keep"]),
        use_cache=False,
    )
    # a flat index_select, because the gradient of indexing by two tensors adds in any order
    places = batch["token_row"] * output.logits.shape[1] + batch["token_column"]
    predictions = output.logits.flatten(0, 1).index_select(0, places).float()
    # cross_entropy never holds the log-probabilities of the whole vocabulary twice
    token_logps = -F.cross_entropy(predictions, batch["token_id"], reduction="none")
    answers = token_logps.new_zeros(len(batch["answer_length"]))
    return answers.index_add(0, batch["token_answer"], token_logps)


def dpo_losses(
    policy: torch.Tensor,
    reference: torch.Tensor,
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    beta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """DPO's loss of each pair (Rafailov et al., NeurIPS 2023, arXiv:2305.18290, equation 7).

    -log sigmoid(r_chosen - r_rejected), where an answer's implicit reward r is
    beta times its log-ratio between policy and reference model.

    Args:
        policy: (N,), log-probability of each answer under the policy.
        reference: (N,), the same under the reference model.
        chosen: (M,), index of each pair's chosen answer.
        rejected: (M,), index of its rejected answer.
        beta: How strongly the policy is held to the reference; larger is closer.

    Returns:
        The losses (M,), not weighted, and the implicit rewards (N,).
    """
    rewards = beta * (policy - reference)
    return -F.logsigmoid(rewards[chosen] - rewards[rejected]), rewards


def chosen_nll(
    policy: torch.Tensor, answer_length: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Mean token negative log-likelihood of each pair's chosen answer.

    Added to DPO's loss it keeps the chosen answers likely, as in RPO (Pang et al.,
    arXiv:2404.19733, equation 1).

    Args:
        policy: (N,), log-probability of each answer under the policy.
        answer_length: (N,), tokens of each answer.
        chosen: (M,), index of each pair's chosen answer.

    Returns:
        (M,), in nats per token.
    """
    return -(policy / answer_length)[chosen]
