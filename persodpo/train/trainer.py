"""ScoreWeightedDPOTrainer: TRL's DPOTrainer with a weight per pair and shared prompts.

    loss = mean over pairs of  weight * pair_loss  +  sft_weight * nll(chosen)

where pair_loss is DPO's (sigmoid), or the paper's equation (2) to the letter (linear). Supervised
fine-tuning (nll) is the last term alone.

TRL 1.16 has no hook for a weight per pair: columns it doesn't know are dropped and
its loss is computed in one long method. So three methods are replaced here, and
nowhere else; `tests/train/test_training.py` holds them to TRL's own loss and gradient,
and proves that a weight reaches the gradient.

TRL wants a `datasets.Dataset`. It gets one of the planned passes, each the numbers of its
rows, so that the rows themselves stay what they are, and the batches come in the plan's order.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import DPOTrainer

from persodpo import processes
from persodpo.config.train import PairMethod, SftMethod
from persodpo.errors import UserError
from persodpo.train.collator import Batch, PromptCollator
from persodpo.train.guard import FALL, SHARE
from persodpo.train.loss import (
    AnswerLogps,
    answer_logps,
    chosen_nll,
    dpo_losses,
    linear_losses,
)
from persodpo.train.rows import TrainingRow

# Thirds of the training pairs by S_chosen - S_rejected, whose accuracy is logged one by one.
MARGIN_BINS = ("small", "middle", "large")
# What DPOConfig must have, so that a batch is a pass of the plan, and the plan the whole training.
PLANNED = {
    "train_sampling_strategy": "sequential",
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "num_train_epochs": 1,
    "remove_unused_columns": False,
}


class ScoreWeightedDPOTrainer(DPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """DPO on rows that are prompts with their answers and weighted pairs.

    Args:
        train: The rows that are trained on.
        held_out: The rows whose loss is looked at, one at a time.
        collator: Lays them out.
        plan: The rows of each pass through the model, by their place in `train` (see
            `persodpo.train.batches.plan_passes`); it holds all epochs.
        steps: Steps of the optimiser that see every pair once.
        method: Its loss; see `persodpo.train.loss`.
        kwargs: As for `trl.DPOTrainer`, but no data; `args` must have what PLANNED says.

    Raises:
        UserError: From `train`, if a loss is no number.
    """

    _total_train_tokens: int  # TRL's

    def __init__(
        self,
        train: Sequence[TrainingRow],
        held_out: Sequence[TrainingRow],
        collator: PromptCollator,
        plan: list[list[int]],
        steps: int,
        method: SftMethod | PairMethod,
        **kwargs: Any,
    ) -> None:
        self.method = method
        rows = [*train, *held_out]
        alone = [[number] for number in range(len(train), len(rows))]
        super().__init__(
            train_dataset=Dataset.from_dict({"rows": plan}),
            eval_dataset=Dataset.from_dict({"rows": alone}) if alone else None,
            data_collator=lambda passes: collator([rows[n] for one in passes for n in one["rows"]]),
            **kwargs,
        )
        if getattr(self.model, "is_loaded_in_4bit", False):
            # TRL has just made the adapter bfloat16, which rounds small steps away
            for parameter in self.model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
        passes = self.args.gradient_accumulation_steps * self.args.world_size
        # Dividing a pass's summed loss by the pairs that an average pass has, not by its own
        # number, makes every pair count alike, whatever prompts it is batched with. The logged
        # `loss` swings with a batch's pairs therefore; `loss/total` is their mean.
        self._mean_pairs = {
            "train": sum(len(row.pairs) for row in train) / (steps * passes),
            "eval": sum(len(row.pairs) for row in held_out) / max(len(held_out), 1),
        }
        differences = [pair.difference for row in train for pair in row.pairs]
        thirds = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
        self._margin_edges = torch.tensor(differences, dtype=torch.float64).quantile(thirds)

    @property
    def is_preference(self) -> bool:
        """Whether it is trained on pairs, and not on single answers."""
        return isinstance(self.method, PairMethod)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # it has numbers of rows, which are tokenised already

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # the rows have them already

    def _compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False
    ) -> torch.Tensor:
        mode = "train" if self.model.training else "eval"
        policy = answer_logps(model, inputs)
        nll = chosen_nll(policy.logps, inputs["answer_length"], inputs["chosen"])
        if isinstance(self.method, PairMethod):
            losses, per_pair = self._preferences(self.method, policy.logps, inputs)
            total = inputs["weight"] * losses + self.method.sft_weight * nll
        else:
            total, per_pair = nll, {}
        per_pair |= {
            "loss/total": total,
            "loss/nll_chosen": nll,
            "logps/chosen": policy.logps[inputs["chosen"]],
        }
        self._record(mode, per_pair | _per_token(policy, inputs, self.is_preference), inputs)
        loss: torch.Tensor = total.sum() / self._mean_pairs[mode]
        return loss

    def _preferences(
        self, method: PairMethod, policy_logps: torch.Tensor, inputs: Batch
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The losses of M pairs (M,), not weighted, and what is logged of each pair."""
        reference_logps = inputs["reference_logps"]
        chosen, rejected = inputs["chosen"], inputs["rejected"]
        losses, rewards = dpo_losses(
            policy_logps, reference_logps, chosen, rejected, self.beta, inputs["offset"]
        )
        if method.loss == "linear":
            losses = linear_losses(policy_logps, chosen, rejected, self.beta)
        margins = rewards[chosen] - rewards[rejected]
        right = (margins > 0).float()
        fall = ((reference_logps - policy_logps) / inputs["answer_length"])[chosen]
        return losses, {
            "loss/pair": losses,
            "rewards/chosen": rewards[chosen],
            "rewards/rejected": rewards[rejected],
            "rewards/margins": margins,
            "rewards/accuracies": right,
            "weight/mean": inputs["weight"],
            "logps/rejected": policy_logps[rejected],
            SHARE: (fall > 0).float(),
            FALL: fall,
            **self._by_margin(right, inputs["difference"]),
        }

    def _by_margin(self, right: torch.Tensor, difference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Of some pairs (M,), whether the policy is right, by thirds of their difference."""
        bins = torch.bucketize(difference, self._margin_edges.to(difference))
        return {
            f"rewards/accuracies_{name}_margin": right[bins == number]
            for number, name in enumerate(MARGIN_BINS)
        }

    def _record(self, mode: str, values: dict[str, torch.Tensor], inputs: Batch) -> None:
        """Keep values for the log, which shows their mean over pairs or tokens since the last."""
        metrics: defaultdict[str, list[float]] = self._metrics[mode]
        mine = {name: value.detach().tolist() for name, value in values.items()}
        if not all(map(math.isfinite, mine["loss/total"])):
            raise UserError(
                f"The loss isn't a number at step {self.state.global_step + 1}; lower the method's "
                "learning_rate (params.yaml: train.methods), or set train.dtype to float32."
            )
        # padding and the answer that stands in an empty pass aren't counted
        tokens = int((inputs["position_ids"] > 0).sum()) + len(inputs["input_ids"])
        tokens *= len(inputs["chosen"]) > 0
        if not self._total_train_tokens:  # at the start, which may be a checkpoint's
            logged = [row["num_tokens"] for row in self.state.log_history if "num_tokens" in row]
            self._total_train_tokens = max(logged, default=0)
        # as objects, since processes have different numbers of pairs
        for theirs, their_tokens in processes.gather([(mine, tokens)]):
            for name, each in theirs.items():
                if each:
                    metrics[name] += each
            if mode == "train":
                self._total_train_tokens += their_tokens
            weights = theirs.get("weight/mean")
            for name, extreme in (("weight/min", min), ("weight/max", max)):
                if weights:
                    metrics[name] = [extreme([*metrics[name], *weights])]
        metrics["num_tokens"] = [self._total_train_tokens]


def _per_token(policy: AnswerLogps, inputs: Batch, is_preference: bool) -> dict[str, torch.Tensor]:
    """TRL's numbers over the tokens of answers, here of each different answer once."""
    is_chosen = torch.zeros_like(inputs["answer_length"], dtype=torch.bool)
    is_rejected = is_chosen.clone()
    is_chosen[inputs["chosen"]] = True
    is_rejected[inputs["rejected"]] = True
    chosen, rejected = (each[inputs["token_answer"]] for each in (is_chosen, is_rejected))
    return {
        "entropy": policy.entropy[chosen | rejected],
        "mean_token_accuracy": policy.is_top1[chosen].float(),
        "logits/chosen": policy.mean_logit[chosen],
        **({"logits/rejected": policy.mean_logit[rejected]} if is_preference else {}),
    }
