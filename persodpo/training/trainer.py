"""ScoreWeightedDPOTrainer: TRL's DPOTrainer with a weight per pair and shared prompts.

    loss = mean over pairs of  weight * dpo_loss  +  sft_weight * nll(chosen)

TRL 1.16 has no hook for a weight per pair: columns it doesn't know are dropped and
its loss is computed in one long method. So three methods are replaced here, and
nowhere else; `tests/test_training.py` holds them to TRL's own loss and gradient,
and proves that a weight reaches the gradient.
"""

from collections import defaultdict
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import DPOTrainer

from persodpo.training.collator import COLUMNS, Batch
from persodpo.training.loss import chosen_nll, dpo_losses, shared_prompt_logps


class ScoreWeightedDPOTrainer(DPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """DPO on rows that are prompts with their answers and weighted pairs.

    Args:
        sft_weight: Weight of the mean token NLL of the chosen answers; 0 leaves it out.
        kwargs: As for `trl.DPOTrainer`. The training set has rows with COLUMNS, and
            `SharedPromptCollator` lays them out.
    """

    def __init__(self, sft_weight: float, **kwargs: Any) -> None:
        self.sft_weight = sft_weight
        super().__init__(**kwargs)
        pairs = [len(weights) for weights in self.train_dataset["weight"]]
        # Dividing a batch's summed loss by the pairs an average batch has, not by its own number,
        # makes every pair of the training set count alike, whatever prompts it is batched with.
        # The logged `loss` swings with a batch's pairs therefore; `loss/total` is their mean.
        self._mean_pairs = sum(pairs) / len(pairs)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # the rows are tokenised already

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(COLUMNS)

    def _compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False
    ) -> torch.Tensor:
        policy = shared_prompt_logps(model, inputs)
        chosen, rejected, weight = (inputs[name] for name in ("chosen", "rejected", "weight"))
        losses, rewards = dpo_losses(policy, inputs["reference"], chosen, rejected, self.beta)
        nll = chosen_nll(policy, inputs["answer_length"], chosen)
        expected_pairs = self.args.per_device_train_batch_size * self._mean_pairs
        loss: torch.Tensor = (weight * losses + self.sft_weight * nll).sum() / expected_pairs
        margins = rewards[chosen] - rewards[rejected]
        self._record(
            {
                "loss/total": weight * losses + self.sft_weight * nll,
                "loss/dpo": losses,
                "loss/nll_chosen": nll,
                "rewards/chosen": rewards[chosen],
                "rewards/rejected": rewards[rejected],
                "rewards/margins": margins,
                "rewards/accuracies": (margins > 0).float(),
                "weight/mean": weight,
            }
        )
        return loss

    def _record(self, values: dict[str, torch.Tensor]) -> None:
        """Keep values (M,) for the log, which shows their mean over the pairs since the last."""
        metrics: defaultdict[str, list[float]] = self._metrics["train"]
        for name, value in values.items():
            # as objects, since processes have different numbers of pairs
            metrics[name] += gather_object(value.detach().tolist())
