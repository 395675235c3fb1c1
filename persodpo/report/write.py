"""All files of results/: what they are made of, and how they are written."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from persodpo.config.train import PairMethod, SftMethod
from persodpo.errors import UserError
from persodpo.records import write_text
from persodpo.report.comparison import compare
from persodpo.report.documents import audit_document, comparison, facts, page_blocks, table_1
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
from persodpo.report.scores import FILE as SCORES_FILE
from persodpo.report.scores import prompt_scores, write_scores
from persodpo.report.summary import BASE, headline, summarise_all
from persodpo.runner import write_json
from persodpo.workflow import Params

# The paper's baseline, with which each other method on pairs is compared.
BASELINE = "dpo"
# A candidate's numbers that `dvc plots` and the means over seeds take, and their file.
PLOTTED = ["failure_ratio", "seconds", "repeated", "distinct_2"]
CANDIDATES_FILE = "candidates.csv"
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
        published: The paper's rows.
    """

    results: Results
    logs: Mapping[str, pd.DataFrame]
    histograms: Mapping[str, tuple[str, pd.DataFrame]]
    published: pd.DataFrame


def read_sources(params: Params, artifacts: Path) -> Sources:
    """Read everything that the report is made of.

    Raises:
        UserError: A file is missing or bad, or the evaluations are of different runs.
    """
    return Sources(
        results=read_results(params.candidates(), params, artifacts),
        logs={name: _csv(artifacts / f"training/{name}.csv") for name in params.train.methods},
        histograms={
            column: (title, _csv(artifacts / f"pairs/{file}.csv"))
            for column, (title, file) in HISTOGRAMS.items()
        },
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
            per candidate), `scores.csv` (every value of every candidate on every prompt),
            `candidates.csv` (for `dvc plots`), `figure2{a,b,c}.svg` and `report.html`.
    """
    results, equivalence = sources.results, params.evaluate.equivalence
    summaries = summarise_all(results, params.sample.max_words)
    compared = compare_methods(results, params)
    figures: dict[str, Sequence[Chart]] = {
        "figure2a": training_figure(sources.logs, "a"),
        "figure2b": training_figure(sources.logs, "b"),
        "figure2c": candidates_figure(summaries),
    }
    write_text(folder / "table1.md", table_1(results, summaries, sources.published))
    write_text(
        folder / "comparison.md",
        comparison(results, summaries, compared, equivalence),
    )
    write_text(folder / "audit.md", audit_document(results))
    metrics = {name: headline(summary) for name, summary in summaries.items()}
    write_json(folder / "metrics.json", metrics)
    write_scores(prompt_scores(results), folder / SCORES_FILE)
    plotted = pd.DataFrame.from_dict(summaries, orient="index")[PLOTTED].rename_axis("candidate")
    write_text(folder / CANDIDATES_FILE, plotted.to_csv())
    for name, charts in figures.items():
        write_text(folder / f"{name}.svg", draw(charts))
    on_page = figures | {"pairs": pairs_figure(sources.histograms)}
    svgs = {name: draw_inline(charts) for name, charts in on_page.items()}
    page = render_page(
        "PersoDPO: results",
        facts(results, params),
        page_blocks(results, summaries, compared, equivalence, sources.published, svgs),
        examples_data(results.prompts, results.table, results.metrics)
        if params.report.texts
        else None,
    )
    write_text(folder / "report.html", page)


def compare_methods(results: Results, params: Params) -> pd.DataFrame:
    """Compare each method with others: see `persodpo.report.comparison.compare`."""
    found = results.measures()
    values = {key: results.values(key) for key in found}
    return compare(
        values,
        compared_pairs(results.candidates(), params.train.methods),
        results.clusters(),
        found,
        params.evaluate.equivalence,
    )


# A setting of a method with its plain value, and the further keys that belong to it.
PLAIN_SETTINGS = (
    ("weight", "none", ("weight_temperature", "weight_normalisation")),
    ("loss", "sigmoid", ()),
    ("start", BASE, ()),
)


def _differs_alone(
    method: PairMethod, twin: PairMethod, key: str, plain: str, belongs: tuple[str, ...]
) -> bool:
    """Whether a method differs in one setting alone from another one, which has its plain value."""
    exclude = {key, *belongs}
    return getattr(twin, key) == plain != getattr(method, key) and twin.model_dump(
        exclude=exclude
    ) == method.model_dump(exclude=exclude)


def compared_pairs(
    candidates: Sequence[str], methods: Mapping[str, SftMethod | PairMethod]
) -> list[tuple[str, str]]:
    """With whom each method is compared.

    Each with the base and with what it starts from; one on pairs also with the paper's baseline,
    and with methods that differ from it in one thing alone: they have no weight, or DPO's loss, or
    start from the base. Where nothing was trained, the other candidates take the methods' place.

    Returns:
        Candidates and methods, by candidate.
    """
    if not methods:
        return [
            (against, name)
            for against in (BASE, BASELINE)
            if against in candidates
            for name in candidates
            if name not in (BASE, against)
        ]
    pairs = [(BASE, name) for name in methods if BASE in candidates]
    pairs += [(method.start, name) for name, method in methods.items() if method.start != BASE]
    on_pairs = {name: each for name, each in methods.items() if isinstance(each, PairMethod)}
    pairs += [(BASELINE, name) for name in on_pairs if BASELINE in methods and name != BASELINE]
    pairs += [
        (other, name)
        for name, method in on_pairs.items()
        for other, twin in on_pairs.items()
        if any(_differs_alone(method, twin, *setting) for setting in PLAIN_SETTINGS)
    ]
    # where one method alone is asked about, others needn't be evaluated
    pairs = [pair for pair in dict.fromkeys(pairs) if set(pair) <= set(candidates)]
    return sorted(pairs, key=lambda pair: list(candidates).index(pair[0]))
