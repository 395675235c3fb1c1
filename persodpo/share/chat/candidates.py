"""Who can be talked to: the base and the trained methods, on as few weights as possible."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel

from persodpo.errors import UserError
from persodpo.models.chat_template import ChatTemplate, load_chat_template
from persodpo.models.failures import loading
from persodpo.models.loading import fast_dtype, load_adapter, load_causal_lm
from persodpo.share.policies import is_adapter, policy_folder
from persodpo.workflow import Params

BASE = "base"


@dataclass
class Candidate:
    """A model that is talked to, and its own view of the conversation.

    Attributes:
        name: `base`, or a key of `train.methods`.
        weights: Its weights; the base and all adapters share the base's.
        adapters: The shared weights' adapters; None if there are none.
        adapter: Its own among these; None for the base.
        turns: What the user and this candidate said, the user first.
    """

    name: str
    weights: PreTrainedModel
    adapters: PeftModel | None = None
    adapter: str | None = None
    turns: list[str] = field(default_factory=list)

    def active(self) -> AbstractContextManager[Any]:
        """The context in which the weights are this candidate's."""
        if self.adapters is None:
            return nullcontext()
        if self.adapter is None:
            disabled: AbstractContextManager[Any] = self.adapters.disable_adapter()
            return disabled
        self.adapters.set_adapter(self.adapter)
        return nullcontext()


def load_candidates(
    policies: dict[str, bool], params: Params
) -> tuple[list[Candidate], ChatTemplate]:
    """Load the weights: the base's once for itself and all adapters, whole models by themselves.

    Args:
        policies: The candidates' names, and whether each is the base or an adapter on it.
        params: All parameters.

    Returns:
        The candidates in the same order, and the chat template, which is the base's for all.

    Raises:
        UserError: The base, its tokenizer or a policy can't be loaded.
    """
    base, key = params.trained_model(), f"params.yaml: models.{params.train.model}.model"
    source, dtype = (base.model, base.revision, key), fast_dtype(params.generate.dtype)
    shared = load_causal_lm(*source, dtype) if any(policies.values()) else None
    candidates: list[Candidate] = []
    adapters: PeftModel | None = None
    # The evaluation merges an adapter into the weights; here it stays beside them, so that several
    # can share them. The sums are then rounded in another order, and may differ in the last bits.
    for number, (name, on_base) in enumerate(policies.items()):
        folder = str(policy_folder(name))
        if name == BASE:
            candidates.append(Candidate(name, shared))
        elif not on_base:
            candidates.append(Candidate(name, load_causal_lm(folder, None, folder, dtype)))
        else:
            # peft and torch don't take every name, and none may be part of another or of a layer's
            adapter = f"adapter_{number}_"
            with loading(folder, "the policy", "an adapter"):
                adapters = load_adapter(adapters or shared, Path(folder), adapter)
            # peft has put its layers into the shared model itself
            candidates.append(Candidate(name, shared, adapter=adapter))
    for candidate in candidates:
        if candidate.weights is shared:
            candidate.adapters = adapters
    return candidates, load_chat_template(base, params.generate.date, key)


def find_policies(chosen: Sequence[str], params: Params) -> dict[str, bool]:
    """Whom to talk to, in the order of the results, and whether each needs the base's weights.

    Raises:
        UserError: A chosen name doesn't exist, or its method isn't trained.
    """
    names = [BASE, *params.train.methods]
    for name in chosen:
        if name not in names:
            raise UserError(f"--with {name}: there is no such model; choose of {', '.join(names)}.")
    policies = {}
    for name in names:
        if chosen and name not in chosen:
            continue
        try:
            policies[name] = name == BASE or is_adapter(name, params)
        except UserError as error:
            if chosen:
                raise
            sys.stderr.write(f"{name} is left out: {error}\n")
    return policies
