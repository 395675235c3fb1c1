"""The rows of the training set: pairs grouped, weighted, in tokens. No weights are loaded here."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from persodpo.config.models import TransformersModel
from persodpo.config.train import MethodParams, TrainParams
from persodpo.errors import UserError
from persodpo.models.chat_template import ChatTemplate
from persodpo.models.loading import load_config
from persodpo.records import Pair, Prompt
from persodpo.train.groups import group_pairs, tokenize_groups
from persodpo.weights import pair_weights

Rows = list[dict[str, Any]]


def training_rows(
    pairs: Sequence[Pair],
    prompts: Sequence[Prompt],
    method: MethodParams,
    params: TrainParams,
    base: TransformersModel,
    template: ChatTemplate,
    max_words: int,
) -> Rows:
    """One row per prompt, with all that `PromptCollator` needs but the reference's values.

    Raises:
        UserError: `train.max_length` is more than the model can read, or a prompt doesn't fit.
    """
    _refuse_long_context(params, base)
    by_id = {prompt.id: prompt for prompt in prompts}
    groups = tokenize_groups(group_pairs(pairs), template, params.max_length, by_id, max_words)
    return weigh(groups, method, params)


def _refuse_long_context(params: TrainParams, base: TransformersModel) -> None:
    config = load_config(base.model, base.revision, f"params.yaml: models.{params.model}.model")
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is not None and params.max_length > limit:
        raise UserError(
            f"params.yaml: train.max_length is {params.max_length}, but {base.model} reads no more "
            f"than {limit} tokens; lower it."
        )


def weigh(groups: Rows, method: MethodParams, params: TrainParams) -> Rows:
    """Give each pair its weight and its offset.

    `score` weighs by sigmoid(difference / temperature) (the factor of the paper's equation 2),
    normalised over all pairs; `margin_offset` leaves the weights at 1 and takes difference /
    temperature as offset in the loss (ODPO with the identity in the place of its logarithm).
    """
    differences = [difference for row in groups for difference in row["difference"]]
    weights, offsets = np.ones(len(differences)), np.zeros(len(differences))
    if method.weight == "score":
        weights = pair_weights(differences, params.weight_temperature, params.weight_normalisation)
    elif method.weight == "margin_offset":
        offsets = np.asarray(differences) / params.weight_temperature
    ends = np.cumsum([len(row["difference"]) for row in groups])[:-1]
    parts = zip(np.split(weights, ends), np.split(offsets, ends), strict=True)
    return [
        {**row, "weight": weight.tolist(), "offset": offset.tolist()}
        for row, (weight, offset) in zip(groups, parts, strict=True)
    ]


def split(rows: Rows, held_out: float, seed: int) -> tuple[Rows, Rows]:
    """Draw prompts, with all their pairs, that the training doesn't see.

    Args:
        rows: Rows of the training set.
        held_out: Their share; of any share above 0 at least one prompt.
        seed: Of the draw.

    Returns:
        The rows for the training, and those held out.

    Raises:
        UserError: Nothing would be left for the training.
    """
    n = max(1, round(held_out * len(rows))) if held_out else 0
    if n >= len(rows):
        raise UserError(
            f"params.yaml: train.held_out = {held_out:g} takes all of the {len(rows)} prompts "
            "with pairs; lower it, or sample more."
        )
    drawn = set(np.random.default_rng(seed).permutation(len(rows))[:n].tolist())
    return (
        [row for number, row in enumerate(rows) if number not in drawn],
        [row for number, row in enumerate(rows) if number in drawn],
    )
