"""ScoreWeightedDPOTrainer: TRL's DPOTrainer with a weight per pair and shared prompts.

    loss = mean over pairs of  weight * pair_loss  +  sft_weight * nll(chosen)

where pair_loss is DPO's (sigmoid), or the paper's equation (2) to the letter (linear).

TRL 1.16 has no hook for a weight per pair: columns it doesn't know are dropped and
its loss is computed in one long method. So four methods are replaced here, and
nowhere else; `tests/train/test_training.py` holds them to TRL's own loss and gradient,
and proves that a weight reaches the gradient.
"""

import math
from collections import defaultdict
from typing import Any

import torch
from torch.utils.data import DataLoader
from trl import DPOTrainer

from persodpo import processes
from persodpo.config.train import LossKind
from persodpo.errors import UserError
from persodpo.train.collator import Batch
from persodpo.train.loss import (
    AnswerLogps,
    answer_logps,
    chosen_nll,
    dpo_losses,
    linear_losses,
)

# Thirds of the training pairs by S_chosen - S_rejected, whose accuracy is logged one by one.
MARGIN_BINS = ("small", "middle", "large")


class ScoreWeightedDPOTrainer(DPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """DPO on rows that are prompts with their answers and weighted pairs.

    Args:
        plan: The prompts of each pass through the model (see
            `persodpo.train.batches.plan_passes`); it holds all epochs, so
            `args.num_train_epochs` must be 1.
        steps: Steps of the optimiser that see every pair once.
        loss: `sigmoid` or `linear`; see `persodpo.train.loss`.
        sft_weight: Weight of the mean token NLL of the chosen answers; 0 leaves it out.
        kwargs: As for `trl.DPOTrainer`. Data sets have the rows that `PromptCollator`
            lays out, so `args.remove_unused_columns` must be off.
    """

    def __init__(
        self,
        plan: list[list[int]],
        steps: int,
        loss: LossKind,
        sft_weight: float,
        **kwargs: Any,
    ) -> None:
        self.plan = plan
        self.pair_loss = loss
        self.sft_weight = sft_weight
        super().__init__(**kwargs)
        self._total_train_tokens = 0
        per_row = {
            "train": [len(each) for each in self.train_dataset["weight"]],
            "eval": [len(each) for each in self.eval_dataset["weight"]]
            if self.eval_dataset
            else [],
        }
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
            "train": sum(per_row["train"]) / (steps * passes),
            "eval": sum(per_row["eval"]) / max(len(per_row["eval"]), 1),
        }
        differences = [each for row in self.train_dataset["difference"] for each in row]
        thirds = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
        self._margin_edges = torch.tensor(differences, dtype=torch.float64).quantile(thirds)

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # the rows are tokenised already

    def _precompute_ref_logps(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset  # the rows have the reference model's log-probabilities already

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches as the plan has them."""
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self.plan,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def _compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False
    ) -> torch.Tensor:
        mode = "train" if self.model.training else "eval"
        said = answer_logps(model, inputs)
        chosen, rejected, weight = (inputs[name] for name in ("chosen", "rejected", "weight"))
        losses, rewards = dpo_losses(
            said.logps, inputs["reference"], chosen, rejected, self.beta, inputs["offset"]
        )
        if self.pair_loss == "linear":
            losses = linear_losses(said.logps, chosen, rejected, self.beta)
        nll = chosen_nll(said.logps, inputs["answer_length"], chosen)
        total = weight * losses + self.sft_weight * nll
        margins = rewards[chosen] - rewards[rejected]
        right = (margins > 0).float()
        per_pair = {
            "loss/total": total,
            "loss/pair": losses,
            "loss/nll_chosen": nll,
            "rewards/chosen": rewards[chosen],
            "rewards/rejected": rewards[rejected],
            "rewards/margins": margins,
            "rewards/accuracies": right,
            "weight/mean": weight,
            "logps/chosen": said.logps[chosen],
            "logps/rejected": said.logps[rejected],
        }
        edges = self._margin_edges.to(inputs["difference"])
        bins = torch.bucketize(inputs["difference"], edges)
        for number, name in enumerate(MARGIN_BINS):
            per_pair[f"rewards/accuracies_{name}_margin"] = right[bins == number]
        self._record(mode, per_pair | _per_token(said, inputs), inputs)
        loss: torch.Tensor = total.sum() / self._mean_pairs[mode]
        return loss

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
            weights = theirs["weight/mean"]
            for name, extreme in (("weight/min", min), ("weight/max", max)):
                if weights:
                    metrics[name] = [extreme([*metrics[name], *weights])]
        metrics["num_tokens"] = [self._total_train_tokens]


def _per_token(said: AnswerLogps, inputs: Batch) -> dict[str, torch.Tensor]:
    """TRL's numbers over the tokens of answers, here of each different answer once."""
    is_chosen = torch.zeros_like(inputs["answer_length"], dtype=torch.bool)
    is_rejected = is_chosen.clone()
    is_chosen[inputs["chosen"]] = True
    is_rejected[inputs["rejected"]] = True
    chosen, rejected = (each[inputs["token_answer"]] for each in (is_chosen, is_rejected))
    return {
        "entropy": said.entropy[chosen | rejected],
        "mean_token_accuracy": said.is_top1[chosen].float(),
        "logits/chosen": said.mean_logit[chosen],
        "logits/rejected": said.mean_logit[rejected],
    }
