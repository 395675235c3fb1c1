"""Sentence pairs with labels: read from a file, split by premise, and added to.

Any table with a premise, a hypothesis and a label does: SNLI's and Dialogue NLI's own
files, or CSV. Labels may have any of their usual names (see `persodpo.score.judges.nli`).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from persodpo.errors import UserError
from persodpo.score.judges.nli import class_name
from persodpo.score.train_nli.params import ClassifierParams
from persodpo.tables import read_table

COLUMNS = ["premise", "hypothesis", "label"]
# What SNLI writes where its annotators didn't agree.
NO_LABEL = ("-", "")
FEWEST_PREMISES = 10


def load_pairs(params: ClassifierParams, root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the pairs to train on, and those to measure on.

    Args:
        params: Where they are; without a test file, a share of the premises is held out,
            with all their pairs.
        root: The folder that the data's folder is named from.

    Returns:
        Two tables with the columns premise, hypothesis and label; the latter is
        contradiction, neutral or entailment.

    Raises:
        UserError: A file is missing, lacks a column, or has a label that is none.
    """
    folder = root / params.folder
    pairs = _read(folder / params.train_file, "train_file", params)
    if params.test_file is not None:
        return pairs, _read(folder / params.test_file, "test_file", params)
    if pairs["premise"].nunique() < FEWEST_PREMISES:
        raise UserError(
            f"{folder / params.train_file}: fewer than {FEWEST_PREMISES} different premises are "
            "too few to hold some out; give a test_file in nli/params.yaml."
        )
    split = GroupShuffleSplit(n_splits=1, test_size=params.held_out, random_state=params.seed)
    train, test = next(split.split(pairs, groups=pairs["premise"]))
    return pairs.iloc[train].reset_index(drop=True), pairs.iloc[test].reset_index(drop=True)


def _read(path: Path, key: str, params: ClassifierParams) -> pd.DataFrame:
    table = read_table(path, f"nli/params.yaml: {key}")
    for column in (params.premise, params.hypothesis, params.label):
        if column not in table.columns:
            raise UserError(
                f"{path}: there is no column {column!r}; the columns there are "
                f"{', '.join(map(str, table.columns))}."
            )
    table = table[[params.premise, params.hypothesis, params.label]].set_axis(COLUMNS, axis=1)
    table = table[~table["label"].isin(NO_LABEL)].reset_index(drop=True)
    for column in COLUMNS:
        wrong = ~table[column].map(lambda value: isinstance(value, str))
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise UserError(
                f"{path}, pair {row + 1} of those with a label: its {column} is "
                f"{table[column].iloc[row]!r}, not a text."
            )
    if table.empty:
        raise UserError(f"{path}: there is no pair with a label.")
    labels = table["label"].map(class_name)
    if labels.isna().any():
        row = int(labels.isna().to_numpy().argmax())
        raise UserError(
            f"{path}: the label {table['label'].iloc[row]!r} (of the premise "
            f"{table['premise'].iloc[row]!r}) is none of contradiction, neutral and entailment, or "
            "their usual names; rename it."
        )
    return table.assign(label=labels)


def with_unrelated(pairs: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Add unrelated pairs as neutral: a premise and the hypothesis of another premise.

    Without them a classifier of image captions calls almost any two texts about
    different things a contradiction.

    Args:
        pairs: Pairs to train on, shape (n, 3).
        share: So many are drawn, as a share of n; those of one premise are left out.
        seed: The seed of the draw.

    Returns:
        All of `pairs`, then the added ones.
    """
    rows = np.random.default_rng(seed).integers(len(pairs), size=(2, round(share * len(pairs))))
    premises = pairs["premise"].to_numpy()
    added = pd.DataFrame(
        {
            "premise": premises[rows[0]],
            "hypothesis": pairs["hypothesis"].to_numpy()[rows[1]],
            "label": "neutral",
        }
    )
    added = added[premises[rows[0]] != premises[rows[1]]]
    more: pd.DataFrame = pd.concat([pairs, added], ignore_index=True)
    return more
