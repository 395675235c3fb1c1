"""ScoreWeightedDPOTrainer: TRL's DPOTrainer with a weight per pair and shared prompts.

    loss = mean over pairs of  weight * dpo_loss  +  sft_weight * nll(chosen)

TRL 1.16 has no hook for a weight per pair: its collator drops columns it doesn't
know and its loss is computed in one long method. So four methods are replaced
here, and nowhere else; `tests/test_trainer.py` holds them to TRL's own loss and
gradient, and proves that a weight reaches the gradient.
"""

from collections import defaultdict
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import use_adapter

from persodpo.training.collator import Batch
from persodpo.training.groups import tokenize_group
from persodpo.training.loss import answer_logps, chosen_nll, dpo_losses

MODEL_INPUTS = ("input_ids", "position_ids", "attention_mask")
TOKEN_INPUTS = ("token_row", "token_column", "token_id", "token_answer")


class ScoreWeightedDPOTrainer(DPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """DPO on rows that are prompts with their answers and weighted pairs.

    Args:
        sft_weight: Weight of the mean token NLL of the chosen answers; 0 leaves it out.
        kwargs: As for `trl.DPOTrainer`. The training set has rows of `group_pairs`
            with an added `weight` per pair; the model is a PEFT model or becomes one
            by `peft_config`, so that the reference is the model without its adapter.
    """

    def __init__(self, sft_weight: float, **kwargs: Any) -> None:
        self.sft_weight = sft_weight
        super().__init__(**kwargs)
        pairs = [len(weights) for weights in self.train_dataset["weight"]]
        # Dividing a batch's summed loss by the pairs an average batch has, not by its own number,
        # makes every pair of the training set count alike, whatever prompts it is batched with.
        self._mean_pairs = sum(pairs) / len(pairs)

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: DPOConfig, dataset_name: str
    ) -> Any:
        return dataset.map(
            tokenize_group,
            fn_kwargs={"tokenizer": processing_class, "max_length": args.max_length},
            desc=f"Tokenizing {dataset_name}",
        )

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["prompt_ids", "answer_ids", "chosen", "rejected", "weight"]

    def compute_ref_log_probs(self, model: torch.nn.Module, inputs: Batch) -> torch.Tensor:
        """Log-probability of each answer under the model without its adapter, shape (N,)."""
        with torch.no_grad(), use_adapter(self.accelerator.unwrap_model(model), adapter_name=None):
            return self._log_probs(model, inputs)

    def _log_probs(self, model: torch.nn.Module, inputs: Batch) -> torch.Tensor:
        output = model(
            **{name: inputs[name] for name in MODEL_INPUTS},
            logits_to_keep=int(inputs["logits_to_keep"]),
            use_cache=False,
        )
        return answer_logps(
            output.logits,
            **{name: inputs[name] for name in TOKEN_INPUTS},
            n_answers=len(inputs["answer_length"]),
        )

    def _compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False
    ) -> torch.Tensor:
        reference = self.compute_ref_log_probs(model, inputs)
        policy = self._log_probs(model, inputs)
        chosen, rejected, weight = (inputs[name] for name in ("chosen", "rejected", "weight"))
        losses, rewards = dpo_losses(policy, reference, chosen, rejected, self.beta)
        nll = chosen_nll(policy, inputs["answer_length"], chosen)
        expected_pairs = self.args.per_device_train_batch_size * self._mean_pairs
        loss: torch.Tensor = (weight * losses + self.sft_weight * nll).sum() / expected_pairs
        margins = (rewards[chosen] - rewards[rejected]).detach()
        self._record(
            {
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
            metrics[name] += self.accelerator.gather(value.detach()).tolist()
