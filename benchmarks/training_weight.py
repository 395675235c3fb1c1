"""What a pair's weight does to loss and gradient, and in what weighted and unweighted pairs differ.

    python -m benchmarks.training_weight --prompts 3

Pairs and model are those of `benchmarks.training`.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path

import torch
import typer

from benchmarks.training import (
    BASE,
    DATE,
    KEY,
    MAX_WORDS,
    SMOLLM2,
    gradient,
    method,
    our_trainer,
    replay_pairs,
    settings,
    trl_trainer,
)
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.loading import load_tokenizer
from persodpo.train.rows import training_rows
from persodpo.train.weighting import weigh
from persodpo.workflow.params import load_params

echo = typer.echo


def main(prompts: int = 3) -> None:
    """A pair's weight doubled; a weight of 1 beside TRL; persodpo beside persodpo_unweighted."""
    pairs, prompt_rows = replay_pairs(prompts)
    with tempfile.TemporaryDirectory() as folder:
        trainer = our_trainer(pairs, prompt_rows, Path(folder), torch.float32, prompts)
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
        even = torch.ones_like(batch["weight"])
        only, doubled = torch.zeros_like(even), even.clone()
        only[0], doubled[0] = 1, 2
        found = {}
        for name, weights in {"even": even, "only": only, "doubled": doubled}.items():
            trainer.model.zero_grad()
            loss = trainer.compute_loss(trainer.model, batch | {"weight": weights})
            loss.backward()
            parts = [p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad]
            found[name] = (loss.item(), torch.cat(parts))
        share = found["only"][1]
        added = found["doubled"][1] - found["even"][1]
        echo(f"{len(pairs)} pairs; the first one's share of the gradient has norm "
             f"{share.norm():.4f}; doubling its weight adds it once more, to a relative "
             f"{float((added - share).norm() / share.norm()):.1e}")  # fmt: skip
        theirs, _ = gradient(
            trl_trainer(pairs, Path(folder), torch.float32, per_device_train_batch_size=1)
        )
        echo(f"weights of 1: loss {found['even'][0]:.7f}, TRL's {theirs:.7f}, difference "
             f"{abs(found['even'][0] - theirs):.1e}")  # fmt: skip
    params = settings()
    template = ChatTemplate(load_tokenizer(SMOLLM2, None, KEY), DATE, None, KEY)
    unweighted = training_rows(pairs, prompt_rows, params, BASE, template, MAX_WORDS)
    rows = {
        name: [asdict(pair) for row in weigh(unweighted, method(weight=name)) for pair in row.pairs]
        for name in ("score", "none")
    }
    differ = {
        key for one, two in zip(rows["score"], rows["none"], strict=True) for key in one
        if one[key] != two[key]
    }  # fmt: skip
    echo(f"pairs of score and none differ in {sorted(differ)}")
    shipped = load_params(Path("profiles/paper.yaml")).train.methods
    one, two = (shipped[name].model_dump() for name in ("persodpo", "persodpo_unweighted"))
    differ = {key for key in one if one[key] != two[key]}
    echo(f"persodpo and persodpo_unweighted of profiles/paper.yaml differ in {sorted(differ)}")


if __name__ == "__main__":
    typer.run(main)
