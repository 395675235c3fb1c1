"""Several processes of one stage under `accelerate launch`: who does what, how it comes together.

A stage that runs models splits its rows between the processes, and every process ends
with all results, so all of them write the same files. Started by plain `python`, a
stage is one process, and nothing here needs torch.

A process that fails ends, and the launcher then ends the others; one that waits for it
meanwhile ends by itself.
"""

import datetime
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from persodpo.errors import UserError

T = TypeVar("T")

# One process may call a server for hours while the others wait; torch gives up after minutes.
PATIENCE = datetime.timedelta(days=30)


def count() -> int:
    """How many processes the stage has."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Which of those on its machine this is, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    """Whether this is the one that speaks for all."""
    return rank() == 0


def share(items: Sequence[T]) -> list[T]:
    """Every count()-th item: this process's part, of about the size and kind of the others'."""
    return list(items[rank() :: count()])


def join(part: list[T]) -> list[T]:
    """The results of all processes' shares, in the order of the items that were shared."""
    parts = gather([part])
    return [parts[i % len(parts)][i // len(parts)] for i in range(sum(map(len, parts)))]


def gather(items: list[T]) -> list[T]:
    """All processes' lists one after the other, in each process; each must call it equally often.

    Raises:
        UserError: Another process has ended.
    """
    if count() == 1:
        return items
    group = _group()
    from torch import distributed  # noqa: PLC0415 - as in _group

    lists: list[Any] = [None] * count()
    try:
        distributed.all_gather_object(lists, items, group=group)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"process {rank()} of this stage has lost another one, which says why ({reason})."
        ) from error
    return [item for part in lists for item in part]


def from_main(compute: Callable[[], T]) -> T:
    """What the main process computes, in every process; the others don't compute it.

    Raises:
        UserError: The main process has raised it.
    """
    if count() == 1:
        return compute()
    computed: list[T | UserError] = []
    if is_main():
        try:
            computed = [compute()]
        except UserError as error:
            computed = [error]
    (result,) = gather(computed)
    if isinstance(result, UserError):
        raise result
    return result


def finish() -> None:
    """Wait until all processes are done, and part; one that just ended could abort others."""
    if _group.cache_info().currsize:
        gather([])
        from torch import distributed  # noqa: PLC0415 - as in _group

        distributed.destroy_process_group()
        _group.cache_clear()


@functools.cache
def _group() -> Any:
    """The processes' connection for what isn't a tensor, over the network and not the GPUs."""
    # imported late, because torch takes seconds that one process need not wait
    import torch  # noqa: PLC0415
    from accelerate import PartialState  # noqa: PLC0415

    on_cpu = not torch.accelerator.is_available()
    if on_cpu:
        # without it accelerate, and so the trainer, takes each process for the only one
        os.environ["ACCELERATE_USE_CPU"] = "true"
    PartialState(cpu=on_cpu)
    return torch.distributed.new_group(backend="gloo", timeout=PATIENCE)
