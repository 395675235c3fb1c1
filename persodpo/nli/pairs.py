"""Sentence pairs with labels: read from a file, split by premise, and added to.

Any table with a premise, a hypothesis and a label does: SNLI's and Dialogue NLI's own
files, or CSV. Labels may have any of their usual names (see `persodpo.scorers.nli`).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit

from persodpo.errors import UserError
from persodpo.nli.params import ClassifierParams
from persodpo.scorers.nli import class_name
from persodpo.tables import read_table

COLUMNS = ["premise", "hypothesis", "label"]
# What SNLI writes where its annotators didn't agree.
NO_LABEL = ("-", "")


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
    pairs = _read(folder / params.train_file, params)
    if params.test_file is not None:
        return pairs, _read(folder / params.test_file, params)
    split = GroupShuffleSplit(n_splits=1, test_size=params.held_out, random_state=params.seed)
    train, test = next(split.split(pairs, groups=pairs["premise"]))
    return pairs.iloc[train].reset_index(drop=True), pairs.iloc[test].reset_index(drop=True)


def _read(path: Path, params: ClassifierParams) -> pd.DataFrame:
    table = read_table(path, "nli/params.yaml: the data's folder and file")
    for column in (params.premise, params.hypothesis, params.label):
        if column not in table.columns:
            raise UserError(
                f"{path}: there is no column {column!r}; the columns there are "
                f"{', '.join(map(str, table.columns))}."
            )
    table = table[[params.premise, params.hypothesis, params.label]].set_axis(COLUMNS, axis=1)
    table = table[~table["label"].isin(NO_LABEL)].reset_index(drop=True)
    labels = table["label"].map(class_name)
    if labels.isna().any():
        row = int(labels.isna().to_numpy().argmax())
        raise UserError(
            f"{path}: the label {table['label'].iloc[row]!r} (of the premise "
            f"{table['premise'].iloc[row]!r}) is none of contradiction, neutral and entailment, or "
            "their usual names; rename it."
        )
    return table.assign(label=labels)


def enlarged(pairs: pd.DataFrame, params: ClassifierParams) -> pd.DataFrame:
    """Add pairs whose label follows from those there are.

    Swapped contradictions: if a premise contradicts a hypothesis, the hypothesis
    contradicts the premise. Unrelated: a premise and the hypothesis of another premise,
    which are neutral; without these a classifier of image captions calls almost any two
    texts about different things a contradiction.

    Args:
        pairs: Pairs to train on, shape (n, 3).
        params: Which to add, and the seed of the draw.

    Returns:
        All of `pairs`, then the added ones.
    """
    parts = [pairs]
    if params.swapped_contradictions:
        swapped = pairs[pairs["label"] == "contradiction"]
        parts.append(swapped.rename(columns={"premise": "hypothesis", "hypothesis": "premise"}))
    random = np.random.default_rng(params.seed)
    rows = random.integers(len(pairs), size=(2, round(params.unrelated * len(pairs))))
    unrelated = pd.DataFrame(
        {
            "premise": pairs["premise"].to_numpy()[rows[0]],
            "hypothesis": pairs["hypothesis"].to_numpy()[rows[1]],
            "label": "neutral",
        }
    )
    same = pairs["premise"].to_numpy()[rows[1]] == unrelated["premise"].to_numpy()
    added: pd.DataFrame = pd.concat([*parts, unrelated[~same]], ignore_index=True)
    return added[COLUMNS]
