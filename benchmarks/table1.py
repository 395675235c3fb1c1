"""The paper's Table 1 beside what its authors published.

    python -m benchmarks.table1

Per system: the share of validation answers that fail by the authors' own rule, and of those that
are given to more than one prompt; whether their values are of these very answers; the means of
these values over all responses; their own table of means (evaluations.csv); and the paper's row.
Then each number of the paper that neither of their sources gives. Read from FOCUS_LOGS
(../shared/focus_logs).
"""

import re
from typing import NamedTuple

import pandas as pd
import typer

from benchmarks.published import FOCUS_LOGS, METRICS, need
from persodpo.intervals import Interval, mean_interval, share_interval
from persodpo.prompts import ParsedResponse, parse_response
from persodpo.report.collapse import repeated_share
from persodpo.report.published import PUBLISHED_FILE

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)


class System(NamedTuple):
    """Where a row of the paper's Table 1 is found in the published files; None where it isn't.

    Attributes:
        paper, responses, values, evaluation: The row, two files, and a row of evaluations.csv.
        is_raw: Whether the file of responses has the models' raw texts; else an answer has been
            taken out of the JSON, and an empty one failed.
    """

    paper: str | None
    responses: str
    values: str | None
    evaluation: str | None
    is_raw: bool = True


SYSTEMS = {
    "Qwen2-0.5B, untrained": System(
        None, "Qwen2-5B-Instruct", "Qwen2-5B-benchmark", None, is_raw=False
    ),
    "Qwen2-0.5B, DPO": System(
        "Qwen2 DPO", "Qwen2-5B-Instruct-simple", "Qwen2-5B-Instruct-simple",
        "Qwen2-5B-Instruct-simple 12452",
    ),
    "Qwen2-0.5B, PersoDPO": System(
        "Qwen2 PersoDPO", "Qwen2-5B-Instruct-perso", "Qwen2-5B-Instruct-perso",
        "Qwen2-5B-Instruct-perso",
    ),
    "Qwen2-0.5B, length prior": System(
        None, "Qwen2-5B-Instruct-length_prior", "Qwen2-5B-Instruct-length_prior",
        "Qwen2-5B-Instruct-length_prior",
    ),
    "Qwen2-7B, authors'": System(
        "Qwen2-7B", "Qwen2-7B-benchmark", "Qwen2-7B-benchmark", "Qwen2-7B-benchmark"
    ),
    "Qwen2-7B, PersoBench's": System(None, "Qwen2-7B-Instruct", None, None),
    "Mistral-7B, PersoBench's": System("Mistral-7B", "Mistral-7B-Instruct", None, None),
    "Llama-3.1-8B, PersoBench's": System("Llama-3.1-8B", "Llama3-1-8B-Instruct", None, None),
    "Gemma-7B, PersoBench's": System(None, "Gemma-7B-Instruct", None, None),
}  # fmt: skip


@app.command()
def main() -> None:
    """Print the table, and what of the paper's isn't found."""
    paper = pd.read_csv(PUBLISHED_FILE, index_col="candidate")
    stated = pd.read_csv(need(FOCUS_LOGS / "evaluations.csv"), dtype=str).set_index("Model")
    rows, missing = {}, []
    for name, system in SYSTEMS.items():
        raw = _column(f"valid_responses/{system.responses}.csv", "gen_response")
        parsed = [parse_response(text, "released") for text in raw]
        if not system.is_raw:
            parsed = [ParsedResponse("valid" if t.strip() else "none", t or None) for t in raw]
        failed = sum(contract != "valid" for contract, _ in parsed)
        row = {
            "fails (answers)": _text(share_interval(failed, len(raw))),
            "repeated": f"{repeated_share(list(raw)):.2f}",
        }
        computed: dict[str, float] = {}
        if system.values is not None:
            values = pd.read_csv(need(FOCUS_LOGS / f"valid_metrics/{system.values}.csv"))
            row["same answers"] = f"{_same(parsed, values):.2f}"
            failed = int((values[METRICS["coh"]] == 0).sum())
            row["fails (values)"] = f"{failed / len(values):.3f}"
        for key, column in METRICS.items():
            sources = []
            if system.values is not None:
                interval = mean_interval(values[column].to_numpy(dtype=float))
                assert interval is not None
                computed[key] = interval.mean
                sources.append(f"{_text(interval)}")
            if system.evaluation is not None:
                sources.append(f"table {_stated(stated, system.evaluation, column):.2f}")
            if system.paper is not None:
                printed = float(paper.loc[system.paper, key])
                sources.append(f"paper {printed:.2f}")
                known = [computed[key]] if key in computed else []
                if system.evaluation is not None:
                    known.append(_stated(stated, system.evaluation, column))
                if not any(round(abs(printed - each), 3) <= 0.005 for each in known):
                    origin = ", ".join(f"{each:.2f}" for each in known) or "no values published"
                    missing.append(f"{column} of {name}: the paper prints {printed:.2f} ({origin})")
            row[column] = "; ".join(sources)
        if system.evaluation is not None:
            row["fails (table)"] = stated.loc[system.evaluation, "Failure Ratio"].split(" ")[0]
        rows[name] = row
    typer.echo(pd.DataFrame.from_dict(rows, orient="index").fillna("").to_markdown())
    typer.echo("\nNumbers of the paper's table that the published files don't give:")
    for sentence in missing:
        typer.echo(f"- {sentence}")


def _same(parsed: list[ParsedResponse], values: pd.DataFrame) -> float:
    """The share of scored answers that are those of the file of responses."""
    pairs = zip(parsed, values["gen_response"].fillna(""), values[METRICS["coh"]], strict=True)
    scored = [(answer, text) for (_, answer), text, coh in pairs if coh > 0]
    return sum(
        answer is not None and answer.strip() == text.strip() for answer, text in scored
    ) / len(scored)


def _column(name: str, column: str) -> pd.Series:
    return pd.read_csv(need(FOCUS_LOGS / name), dtype=str, keep_default_na=False)[column]


def _stated(table: pd.DataFrame, row: str, column: str) -> float:
    """A mean of evaluations.csv, in which it stands as `0.37 ± 0.48`."""
    found = re.match(r"-?[\d.]+", table.loc[row, column])
    assert found is not None
    return float(found[0])


def _text(interval: Interval) -> str:
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


if __name__ == "__main__":
    app()
