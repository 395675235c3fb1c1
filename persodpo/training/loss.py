"""The score-weighted DPO loss, as pure functions of log-probabilities."""

import torch
import torch.nn.functional as F


def answer_logps(
    logits: torch.Tensor,
    token_row: torch.Tensor,
    token_column: torch.Tensor,
    token_id: torch.Tensor,
    token_answer: torch.Tensor,
    n_answers: int,
) -> torch.Tensor:
    """Log-probability of each answer given its prompt, from a shared-prompt batch.

    Args:
        logits: (B, A + 1, V), as laid out by `SharedPromptCollator`.
        token_row: (T,), row of the logits that predict each answer token.
        token_column: (T,), their column.
        token_id: (T,), the tokens.
        token_answer: (T,), the answer each token belongs to, in [0, n_answers).
        n_answers: N.

    Returns:
        (N,), in nats, in float32.
    """
    predictions = logits[token_row, token_column].float()
    # cross_entropy never holds the log-probabilities of the whole vocabulary twice
    token_logps = -F.cross_entropy(predictions, token_id, reduction="none")
    return token_logps.new_zeros(n_answers).index_add(0, token_answer, token_logps)


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
