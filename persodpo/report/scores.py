"""Every candidate's values on every prompt, without a text: the file that means are made of."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from persodpo.errors import UserError
from persodpo.records import write_text
from persodpo.report.measures import Measure
from persodpo.report.results import Results

FILE = "scores.csv"
# Of each row, beside the measures.
KEYS = ["candidate", "id", "dialogue"]
OTHERS = ["s_length", "words"]


class PromptScores(NamedTuple):
    """The values of all candidates on the same prompts.

    Attributes:
        table: A row per candidate and prompt, both in their order: `candidate`, `id` and
            `dialogue` of the prompt, each measure (a failed response, or a value that couldn't
            be computed, has the worst), `s_length`, and `words`, of a failed response those of its
            raw text.
    """

    table: pd.DataFrame

    def candidates(self) -> list[str]:
        """The candidates, in their order."""
        return list(self.table["candidate"].unique())

    def ids(self) -> list[str]:
        """The prompts, in their order."""
        return list(self.table["id"].unique())

    def clusters(self) -> list[str]:
        """The dialogue of each prompt, in the order of `ids`."""
        return self.table.drop_duplicates("id")["dialogue"].tolist()

    def values(self, column: str) -> pd.DataFrame:
        """One column as a row per prompt, and a column per candidate."""
        wide = self.table.pivot(index="id", columns="candidate", values=column)
        return wide.reindex(index=self.ids(), columns=self.candidates())


def prompt_scores(results: Results) -> PromptScores:
    """What `scores.csv` has of all answers."""
    columns = [*results.measures(), *OTHERS]
    table = pd.DataFrame({key: results.values(key).unstack() for key in columns})
    table = table.rename_axis(KEYS[:2]).reset_index()
    dialogues = {prompt.id: prompt.cluster for prompt in results.prompts}
    table.insert(2, KEYS[2], table["id"].map(dialogues))
    return PromptScores(table)


def write_scores(scores: PromptScores, file: Path) -> None:
    """Write them with eight digits, so that equal values stay equal."""
    write_text(file, scores.table.to_csv(index=False, float_format="%.8g"))


def read_scores(
    file: Path, candidates: Sequence[str], measures: Mapping[str, Measure]
) -> PromptScores:
    """Read what `write_scores` wrote.

    Args:
        file: A run's `scores.csv`.
        candidates: Who must be there.
        measures: What must be there, by its key.

    Raises:
        UserError: The file is missing or bad, or of other candidates or measures.
    """
    again = "run the stage that writes it again (dvc repro --force --single-item report)."
    numbers = [*measures, *OTHERS]
    try:
        table = pd.read_csv(file, dtype=dict.fromkeys(KEYS, str), keep_default_na=False)
        table = table[[*KEYS, *numbers]].astype(dict.fromkeys(numbers, float))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{file}: can't be read ({error}); {again}") from error
    scores = PromptScores(table)
    whole = len(candidates) * len(scores.ids())
    if (
        scores.candidates() != list(candidates)
        or len(table) != whole
        or table.duplicated(["candidate", "id"]).any()
    ):
        raise UserError(
            f"{file}: it must have each prompt once for each of {', '.join(candidates)}; {again}"
        )
    return scores
