"""Whose bfloat16 is how far from float32: loss and gradient by this trainer and by TRL's own.

    python -m benchmarks.rounding --prompts 2

Pairs and model are those of `benchmarks.training`.
"""

import tempfile
from pathlib import Path

import torch
import typer

from benchmarks.training import gradient, our_trainer, replay_pairs, trl_trainer
from persodpo.models.loading import device_name


def main(prompts: int = 2) -> None:
    """Print the loss of all pairs, and how far the gradient is from TRL's in float32."""
    pairs, prompt_rows = replay_pairs(prompts)
    found: dict[str, tuple[float, torch.Tensor]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in (torch.float32, torch.bfloat16):
            name = str(dtype).removeprefix("torch.")
            found[f"ours, {name}"] = gradient(
                our_trainer(pairs, prompt_rows, Path(folder), dtype, 1)
            )
            found[f"TRL's, {name}"] = gradient(
                trl_trainer(pairs, Path(folder), dtype, per_device_train_batch_size=1)
            )
    exact = found["TRL's, float32"][1].float()
    typer.echo(f"{len(pairs)} pairs of {prompts} prompts on {device_name()}")
    for name, (loss, each) in found.items():
        relative = float((each.float() - exact).norm() / exact.norm())
        typer.echo(
            f"{name}: loss {loss:.7f}, the gradient's relative difference from TRL's in float32 "
            f"{relative:.1e}"
        )


if __name__ == "__main__":
    typer.run(main)
