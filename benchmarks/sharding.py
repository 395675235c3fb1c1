"""The losses of one process beside those of two that share the weights, step by step.

    python -m benchmarks.sharding compare    FSDP2 and, if installed, DeepSpeed's ZeRO-2, on the CPU

Model and pairs are those of `benchmarks.training`, the launcher's files those of docs/scale.md.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import typer
import yaml

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
KINDS = ["FSDP", "DEEPSPEED"]
SCALE = Path(__file__).parents[1] / "docs/scale.md"


def documented_block(language: str, mark: str) -> str:
    """The block of docs/scale.md in this language that has the mark in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", SCALE.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if mark in block]
    return str(block)


def launcher_config(kind: str) -> str:
    """The documented file for accelerate's launcher, for two processes in float32."""
    config = yaml.safe_load(documented_block("yaml", f"distributed_type: {kind}"))
    return yaml.safe_dump(config | {"num_processes": 2, "mixed_precision": "no"})


def shard_on_cpu() -> None:
    """Tell accelerate that this process has an accelerator, since it shards on no CPU.

    What is sharded stays on the CPU, and gloo connects the processes. To be called
    before a trainer is made; without FSDP or DeepSpeed it changes nothing.
    """
    from accelerate import PartialState  # noqa: PLC0415
    from accelerate.utils import DistributedType  # noqa: PLC0415

    fsdp, deepspeed = (os.environ.get(f"ACCELERATE_USE_{kind}") == "true" for kind in KINDS)
    original = PartialState.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.distributed_type != DistributedType.MULTI_CPU:
            return
        if fsdp:
            self.distributed_type = DistributedType.MULTI_GPU
        elif deepspeed:
            self.distributed_type = DistributedType.DEEPSPEED
            os.environ.pop("ACCELERATE_USE_CPU", None)

    PartialState.__init__ = init


@app.command(hidden=True)
def train(prompts: int, folder: Path) -> None:
    """One training, its log in the folder."""
    shard_on_cpu()
    from benchmarks import training  # noqa: PLC0415
    from persodpo import processes  # noqa: PLC0415
    from persodpo.train.run import train_policy  # noqa: PLC0415

    pairs, prompt_rows = training.replay_pairs(prompts)
    params = training.settings(batch_size=2, epochs=2)
    run = train_policy(pairs, prompt_rows, training.method(), params, training.BASE,
                       training.MAX_WORDS, training.DATE, folder / "policy")  # fmt: skip
    run.log.to_csv(folder / "log.csv", index=False)
    processes.finish()


@app.command()
def compare(prompts: int = 6) -> None:
    """Train in one process and sharded, and print loss and norm of the gradient of each step."""
    kinds = KINDS
    if importlib.util.find_spec("deepspeed") is None:
        typer.echo("DeepSpeed isn't installed (pip install deepspeed), so it is left out.")
        kinds = KINDS[:1]
    tables = []
    with tempfile.TemporaryDirectory() as root:
        for kind in [None, *kinds]:
            name = kind or "one process"
            folder = Path(root, name)
            folder.mkdir()
            launch = [sys.executable]
            if kind:
                (folder / "cluster.yaml").write_text(launcher_config(kind))
                launch += ["-m", "accelerate.commands.launch", "--main_process_port", "0",
                           "--config_file", str(folder / "cluster.yaml")]  # fmt: skip
            subprocess.run(  # noqa: S603
                [*launch, "-m", "benchmarks.sharding", "train", str(prompts), str(folder)],
                env=os.environ | {"DVC_ROOT": str(folder), "DS_ACCELERATOR": "cpu"},
                check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            log = pd.read_csv(folder / "log.csv").set_index("step")
            tables.append(log[["loss/total", "grad_norm"]].add_prefix(f"{name}: "))
    table = pd.concat(tables, axis="columns")
    typer.echo(table.filter(like="loss").to_string(float_format="%.7f"))
    typer.echo(table.filter(like="norm").to_string(float_format="%.5f"))


if __name__ == "__main__":
    app()
