"""All files of results/: what they are made of, and how they are written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from persodpo.errors import UserError
from persodpo.records import Prompt, read_rows, write_text
from persodpo.report.comparison import compare
from persodpo.report.documents import audit, comparison, facts, page_blocks, table_1
from persodpo.report.figures import (
    Chart,
    candidates_figure,
    draw,
    draw_inline,
    pairs_figure,
    training_figure,
)
from persodpo.report.page import examples_data, render_page
from persodpo.report.published import published_rows
from persodpo.report.results import Results, read_results
from persodpo.report.summary import BASE, headline, summarise_all
from persodpo.report.tables import titles
from persodpo.runner import write_json
from persodpo.workflow import Params

# Each method is compared with these, where they are candidates.
AGAINST = (BASE, "sft", "dpo")
# The histograms of the pairs that are drawn: what is counted, its title, the file.
HISTOGRAMS = {
    "s_total": ("Total score", "scores"),
    "margin": ("Margin of a pair", "margins"),
    "words": ("Words", "lengths"),
}


class Sources(NamedTuple):
    """What the report is made of.

    Attributes:
        results: All candidates' answers.
        logs: Per method, its training log.
        histograms: By the column that is counted, a title and its table.
        prompts: The validation prompts.
        published: The paper's rows.
    """

    results: Results
    logs: Mapping[str, pd.DataFrame]
    histograms: Mapping[str, tuple[str, pd.DataFrame]]
    prompts: Sequence[Prompt]
    published: pd.DataFrame


def read_sources(params: Params, artifacts: Path) -> Sources:
    """Read everything that the report is made of.

    Raises:
        UserError: A file is missing or bad, or the evaluations are of different runs.
    """
    results = read_results(params.candidates(), params, artifacts)
    prompts = read_rows(artifacts / "prompts/valid.jsonl", Prompt)
    if {prompt.id for prompt in prompts} != set(results.table["id"]):
        raise UserError(
            f"{artifacts}/prompts/valid.jsonl: the evaluations answer other prompts, so they are "
            "of another run; run dvc repro."
        )
    return Sources(
        results=results,
        logs={name: _csv(artifacts / f"training/{name}.csv") for name in params.train.methods},
        histograms={
            column: (title, _csv(artifacts / f"pairs/{file}.csv"))
            for column, (title, file) in HISTOGRAMS.items()
        },
        prompts=prompts,
        published=published_rows(),
    )


def _csv(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: can't be read ({error}); run the stage that writes it."
        ) from error


def write_results(sources: Sources, params: Params, folder: Path) -> None:
    """Write the tables, the figures, the metrics and the page.

    Args:
        sources: What they are made of.
        params: All parameters.
        folder: Gets `table1.md`, `comparison.md`, `audit.md`, `metrics.json` (at most ten numbers
            per candidate), `candidates.csv` (for `dvc plots`), `figure2{a,b,c}.svg` and
            `report.html`.
    """
    results = sources.results
    summaries = summarise_all(results, params.sample.max_words)
    # where nothing was trained, the other candidates take the methods' place
    methods = list(params.train.methods) or [n for n in results.candidates() if n != BASE]
    compared = compare_methods(results, methods)
    figures: dict[str, Sequence[Chart]] = {
        "figure2a": training_figure(sources.logs, "a"),
        "figure2b": training_figure(sources.logs, "b"),
        "figure2c": candidates_figure(summaries),
    }
    write_text(folder / "table1.md", table_1(results, summaries, sources.published))
    write_text(folder / "comparison.md", comparison(results, summaries, compared))
    write_text(folder / "audit.md", audit(results))
    metrics = {name: headline(summary) for name, summary in summaries.items()}
    write_json(folder / "metrics.json", metrics)
    columns = ["failure_ratio", "seconds"]
    plotted = pd.DataFrame.from_dict(summaries, orient="index")[columns].rename_axis("candidate")
    write_text(folder / "candidates.csv", plotted.to_csv())
    for name, charts in figures.items():
        write_text(folder / f"{name}.svg", draw(charts))
    on_page = figures | {"pairs": pairs_figure(sources.histograms)}
    svgs = {name: draw_inline(charts) for name, charts in on_page.items()}
    page = render_page(
        "PersoDPO: results",
        facts(results, params),
        page_blocks(results, summaries, compared, sources.published, svgs),
        examples_data(sources.prompts, results.table, results.metrics),
    )
    write_text(folder / "report.html", page)


def compare_methods(results: Results, methods: Sequence[str]) -> pd.DataFrame:
    """Each method against base and plain DPO: see `persodpo.report.comparison.compare`."""
    values = {key: results.values(key) for key in titles(results.metrics)}
    against = [name for name in AGAINST if name in results.candidates()]
    return compare(values, methods, against)
