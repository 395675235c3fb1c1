"""All candidates' answers to the validation prompts with all their scores, in one table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from persodpo.errors import UserError
from persodpo.pair import Scale, evaluated_table, score_table, weighted_metrics
from persodpo.records import Evaluated, Prompt, Response, read_rows
from persodpo.report.measures import Measure, all_measures, report_metrics, total_width
from persodpo.runner import read_json
from persodpo.score import Metric
from persodpo.workflow import Params


class Results(NamedTuple):
    """What the report tells of.

    Attributes:
        table: One row per candidate and prompt, candidates and prompts each in their order: the
            columns of `persodpo.pair.evaluated_table` (`model` is the candidate), `failed` (1 if
            the response breaks the JSON contract, else 0), `seconds` and `batch_size`
            (NaN if unknown), `computed` (number format and device of an answer that was computed
            here, else None), and the scores of `persodpo.pair.scoring.score_table`.
        metrics: What the values of each metric mean, in the order of the columns; an audit metric
            is marked in its label.
        pairs: The numbers of the pairs (`artifacts/pairs/metrics.json`).
        weights: Of the metrics that form pairs, by their keys.
        total_width: The largest total score that there can be; the lowest is 0.
        findings: What the audit found (`artifacts/audit/findings.csv`).
        prompts: The validation prompts, in the order of the table.
        trainings: By method, the numbers of its training (`artifacts/training/<method>.json`).
        starts: By method, what it started from.
    """

    table: pd.DataFrame
    metrics: Mapping[str, Metric]
    pairs: Mapping[str, Any]
    weights: Mapping[str, float]
    total_width: float
    findings: pd.DataFrame
    prompts: Sequence[Prompt]
    trainings: Mapping[str, Mapping[str, float]]
    starts: Mapping[str, str]

    def measures(self) -> dict[str, Measure]:
        """What the candidates are compared by."""
        return all_measures(self.metrics, self.total_width)

    def audit_keys(self) -> list[str]:
        """The metrics that no pair sees."""
        return [key for key in self.metrics if key not in self.weights]

    def clusters(self) -> list[str]:
        """The dialogue of each prompt, in the order of `values`."""
        return [prompt.cluster for prompt in self.prompts]

    def candidates(self) -> list[str]:
        """The candidates, in their order."""
        return list(self.table["model"].unique())

    def of(self, candidate: str) -> pd.DataFrame:
        """The rows of one candidate."""
        return self.table[self.table["model"] == candidate].reset_index(drop=True)

    def computed(self) -> dict[str, list[str]]:
        """By candidate, the number formats and devices that its answers were computed in."""
        known = self.table.dropna(subset="computed")
        return {
            str(name): list(rows.unique())
            for name, rows in known.groupby("model", sort=False)["computed"]
        }

    def values(self, measure: str) -> pd.DataFrame:
        """One column of numbers over all responses: a row per prompt, a column per candidate.

        A metric's value that couldn't be computed, or that a failed response hasn't, is the worst.
        """
        values = self.table[measure].astype(float)
        if measure in self.metrics:
            values = values.fillna(self.metrics[measure].worst)
        return (
            self.table.assign(value=values)
            .pivot(index="id", columns="model", values="value")
            .reindex(index=self.table["id"].unique(), columns=self.candidates())
        )


def read_results(candidates: Sequence[str], params: Params, artifacts: Path) -> Results:
    """Read the evaluations of candidates, and what belongs to them.

    Args:
        candidates: Keys of `evaluate.baselines` and `train.methods`, at least one.
        params: All parameters.
        artifacts: The folder that has `evaluations/<candidate>.jsonl`, `prompts/`, `training/` and
            `pairs/`.

    Raises:
        UserError: A file is missing or has a bad row, or the candidates didn't answer the
            validation prompts, each once.
    """
    metrics = report_metrics(params)
    weighted = weighted_metrics(metrics, params.scoring.weights)
    scale = Scale.model_validate(read_json(artifacts / "pairs/scale.json"))
    tables: list[pd.DataFrame] = []
    for name in candidates:
        file = artifacts / f"evaluations/{name}.jsonl"
        rows = read_rows(file, Evaluated)
        _refuse_strangers(file, name, rows, tables)
        table = evaluated_table(rows, metrics)
        table = table.assign(
            failed=1.0 - table["valid"],
            seconds=pd.Series([row.response.seconds for row in rows], dtype=float),
            batch_size=pd.Series([row.response.batch_size for row in rows], dtype=float),
            computed=pd.Series([_computed(row.response) for row in rows], dtype=object),
        )
        tables.append(score_table(table, scale, params.scoring, weighted))
    by_id = {prompt.id: prompt for prompt in read_rows(artifacts / "prompts/valid.jsonl", Prompt)}
    answered = list(tables[0]["id"])
    if by_id.keys() != set(answered):
        raise UserError(
            f"{artifacts}/prompts/valid.jsonl: the evaluations answer other prompts, so they are "
            "of another run; run dvc repro."
        )
    methods = params.train.methods
    return Results(
        table=pd.concat(tables, ignore_index=True),
        metrics=metrics,
        pairs=read_json(artifacts / "pairs/metrics.json"),
        weights={key: params.scoring.weights[key] for key in weighted},
        total_width=total_width(params.scoring),
        findings=_read_findings(artifacts / "audit/findings.csv"),
        prompts=[by_id[id_] for id_ in answered],
        trainings={
            name: read_json(artifacts / f"training/{name}.json")
            for name in candidates
            if name in methods
        },
        starts={name: method.start for name, method in methods.items()},
    )


def _read_findings(file: Path) -> pd.DataFrame:
    """Read what the stage audit found.

    Raises:
        UserError: The file is missing or bad.
    """
    try:
        table = pd.read_csv(file, keep_default_na=False, na_values={"low": "", "high": ""})
        return table.astype({"value": float, "low": float, "high": float})
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{file}: can't be read ({error}); run the stage that writes it (dvc repro audit)."
        ) from error


def _computed(response: Response) -> str | None:
    return f"{response.dtype} on {response.device}" if response.dtype else None


def _refuse_strangers(
    file: Path, name: str, rows: Sequence[Evaluated], before: Sequence[pd.DataFrame]
) -> None:
    """Rows of another candidate, or of other prompts than the first candidate's."""
    again = f"run the stage that writes it again (dvc repro --force --single-item evaluate@{name})."
    if not rows:
        raise UserError(f"{file}: it has no rows; {again}")
    ids = [row.response.id for row in rows]
    if any(row.response.model != name for row in rows) or len(set(ids)) < len(ids):
        raise UserError(f"{file}: it has rows of another candidate, or a prompt twice; {again}")
    if before and set(ids) != set(before[0]["id"]):
        raise UserError(
            f"{file}: its prompts aren't those of {before[0]['model'].iloc[0]}, so the evaluations "
            "are of different runs; run dvc repro."
        )
