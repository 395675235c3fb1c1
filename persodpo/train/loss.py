"""Log-probabilities of answers, and the score-weighted DPO loss as pure functions of them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device
from transformers import PreTrainedModel

from persodpo.train.collator import PromptCollator, TokenBatch
from persodpo.train.rows import TokenisedRow

# For so many tokens at once the entropy is taken, which needs two more copies of their logits.
TOKENS_AT_ONCE = 128


class AnswerLogps(NamedTuple):
    """What a model predicts for N answers with T tokens in all.

    Attributes:
        logps: (N,), log-probability of each answer given its prompt, in nats, in float32.
        entropy: (T,), of the prediction of each answer token, in nats, without gradient.
        is_top1: (T,), whether each answer token is the likeliest one.
        mean_logit: (T,), mean over the vocabulary.
    """

    logps: torch.Tensor
    entropy: torch.Tensor
    is_top1: torch.Tensor
    mean_logit: torch.Tensor


def answer_logps(model: torch.nn.Module, batch: TokenBatch) -> AnswerLogps:
    """Log-probability of each answer given its prompt.

    Args:
        model: A causal language model.
        batch: N answers, as laid out by `PromptCollator`.
    """
    n_logits = int(batch["logits_to_keep"])
    output = model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        attention_mask=batch["attention_mask"],
        logits_to_keep=n_logits,
        use_cache=False,
    )
    # a flat index_select, because the gradient of indexing by two tensors adds in any order
    places = batch["token_row"] * n_logits + batch["token_column"]
    logits = output.logits[:, -n_logits:].flatten(0, 1)
    parts = [
        _predicted(logits, places[start : start + TOKENS_AT_ONCE], ids)
        for start, ids in zip(
            range(0, len(places), TOKENS_AT_ONCE),
            torch.split(batch["token_id"], TOKENS_AT_ONCE),
            strict=True,
        )
    ]
    token_logps, entropy, is_top1, mean_logit = (
        torch.cat(each) for each in zip(*parts, strict=True)
    )
    answers = token_logps.new_zeros(len(batch["answer_length"]))
    answers = answers.index_add(0, batch["token_answer"], token_logps)
    return AnswerLogps(answers, entropy, is_top1, mean_logit)


def _predicted(
    logits: torch.Tensor, places: torch.Tensor, ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability of some answer tokens, and numbers about their predictions."""
    predictions = logits.index_select(0, places).float()
    # cross_entropy keeps one copy of the log-probabilities for the gradient, not two
    token_logps = -F.cross_entropy(predictions, ids, reduction="none")
    with torch.no_grad():
        log_p = predictions.log_softmax(-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        return token_logps, entropy, predictions.argmax(-1) == ids, predictions.mean(-1)


@torch.no_grad()
def rows_logps(
    model: PreTrainedModel, rows: Sequence[TokenisedRow], collator: PromptCollator
) -> torch.Tensor:
    """Log-probability of each answer of some rows as the model is, without gradient.

    Args:
        model: A causal language model, on its device; it is put into evaluation mode.
        rows: They go through the model in one pass.
        collator: Lays them out.

    Returns:
        (N,), in nats, in float32.
    """
    model.eval()
    batch: TokenBatch = send_to_device(collator.tokens(rows), model.device)
    return answer_logps(model, batch).logps


def dpo_losses(
    policy_logps: torch.Tensor,
    reference_logps: torch.Tensor,
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    beta: float,
    offset: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """DPO's loss of each pair (Rafailov et al., NeurIPS 2023, arXiv:2305.18290, equation 7).

    -log sigmoid(r_chosen - r_rejected - offset), where an answer's implicit reward r is
    beta times its log-ratio between policy and reference model. Plain DPO has no
    offset; with one it is ODPO (Amini et al., ACL 2024, arXiv:2402.10571, equation 7).

    Args:
        policy_logps: (N,), log-probability of each answer under the policy.
        reference_logps: (N,), the same under the reference model.
        chosen: (M,), index of each pair's chosen answer.
        rejected: (M,), index of its rejected answer.
        beta: How strongly the policy is held to the reference; larger is closer.
        offset: (M,), by how much the chosen answer's reward is to exceed the rejected one's.

    Returns:
        The losses (M,), not weighted, and the implicit rewards (N,).
    """
    rewards = beta * (policy_logps - reference_logps)
    return -F.logsigmoid(rewards[chosen] - rewards[rejected] - offset), rewards


def linear_losses(
    policy_logps: torch.Tensor, chosen: torch.Tensor, rejected: torch.Tensor, beta: float
) -> torch.Tensor:
    """The loss of each pair by the paper's equation (2) to the letter.

    The equation is an objective to be maximised, sigma(S_chosen - S_rejected) * beta *
    (log p(chosen) - log p(rejected)), so this is its negative, and the sigma is the pair's weight.
    It has no reference model and no lower bound, and every pair pulls with the same force for good,
    however far apart its answers are already.

    Args:
        policy_logps: (N,), log-probability of each answer under the policy.
        chosen: (M,), index of each pair's chosen answer.
        rejected: (M,), index of its rejected answer.
        beta: The factor.

    Returns:
        (M,), not weighted.
    """
    return -beta * (policy_logps[chosen] - policy_logps[rejected])


def chosen_nll(
    policy_logps: torch.Tensor, answer_length: torch.Tensor, chosen: torch.Tensor
) -> torch.Tensor:
    """Mean token negative log-likelihood of each pair's chosen answer.

    Added to DPO's loss it keeps the chosen answers likely, as in RPO (Pang et al.,
    arXiv:2404.19733, equation 1).

    Args:
        policy_logps: (N,), log-probability of each answer under the policy.
        answer_length: (N,), tokens of each answer.
        chosen: (M,), index of each pair's chosen answer.

    Returns:
        (M,), in nats per token.
    """
    return -(policy_logps / answer_length)[chosen]
