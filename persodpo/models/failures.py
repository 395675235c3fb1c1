"""What keeps a checkpoint from being loaded (half a file, no network), as one sentence."""

import contextlib
import os
from collections.abc import Iterator

import huggingface_hub.errors as hub
import torch

from persodpo.errors import UserError


@contextlib.contextmanager
def loading(name: str, key: str, kind: str) -> Iterator[None]:
    """Turn whatever keeps a checkpoint from being loaded into one sentence.

    Args:
        name: The checkpoint's name.
        key: The parameter that holds it.
        kind: What it should be, such as `a chat model`.

    Raises:
        UserError: Something went wrong inside.
    """
    try:
        yield
    except (UserError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # libraries raise whatever a damaged file leads them to
        raise UserError(f"{key} is {name!r}, {_reason(kind, error)}.") from error


def _reason(kind: str, error: Exception) -> str:
    causes = list(_causes(error))
    if any(isinstance(cause, hub.GatedRepoError) for cause in causes):
        return (
            "a gated model: accept its terms on its page of the hub, and export HF_TOKEN=<a token "
            "of your account>"
        )
    if any(isinstance(cause, hub.RepositoryNotFoundError) for cause in causes):
        return (
            "which the hub doesn't have or doesn't show without a login; look at its name, or "
            "export HF_TOKEN=<a token of your account>"
        )
    if any(isinstance(cause, hub.RevisionNotFoundError) for cause in causes):
        return "whose revision the hub doesn't have; look at the commits on its page"
    if any(isinstance(cause, hub.LocalEntryNotFoundError | hub.OfflineModeIsEnabled)
           for cause in causes):  # fmt: skip
        offline = "HF_HUB_OFFLINE is set" if _offline() else "the hub can't be reached"
        return (
            f"which isn't in the cache of this machine, and {offline}; fetch it where there is a "
            "network (hf download), or name a local folder"
        )
    text = " ".join(str(error).split())
    if "safetensors" in text and ("file named" in text or "not contain" in text):
        return (
            "which has no weights as safetensors, and pickled ones aren't loaded; save them as "
            "safetensors (docs/metrics.md shows how)"
        )
    origin = "" if kind == "a tokenizer" else " from safetensors"
    return f"which can't be loaded as {kind}{origin} ({text[:200] or repr(error)})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
