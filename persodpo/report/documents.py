"""The results as documents: table1.md, comparison.md, audit.md, and the blocks of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from persodpo.report.audit import NOTE as AUDIT_NOTE
from persodpo.report.audit import audit_table, audit_warnings, correlation_table
from persodpo.report.gains import one_sided_gains
from persodpo.report.notes import (
    COMPARISON_NOTE,
    DIFFERENCES_NOTE,
    FEW_NOTE,
    FEW_PROMPTS,
    OTHER_NOTE,
    SCORERS_NOTE,
    TIME_NOTE,
)
from persodpo.report.page import Block
from persodpo.report.published import NOTE as PUBLISHED_NOTE
from persodpo.report.results import Results
from persodpo.report.summary import collapses, missing_values
from persodpo.report.tables import (
    WARNING,
    Summaries,
    comparison_table,
    interval_table,
    markdown,
    metric_table,
    other_table,
    time_table,
    verdict_table,
)
from persodpo.workflow import Params


def table_1(results: Results, summaries: Summaries, published: pd.DataFrame | None = None) -> str:
    """The paper's Table 1 and what it leaves out, as Markdown; its own rows, if they are given."""
    warned, metrics = collapses(summaries, results.starts), results.metrics
    parts = [
        "# Results on the validation prompts",
        f"{count_prompts(results.clusters())} per candidate. "
        f"Training pairs: {_pair_sets(results)}.",
        f"{SCORERS_NOTE} {_versions(results)}",
        *_mixed(results),
        *_warnings(warned),
        *_displaced(results),
        *_audit_warnings(results),
        *_pair_warnings(results),
        *missing_values(summaries, metrics),
        "## Metrics over all responses (mean ± sd; a failed response has the worst values)",
        markdown(metric_table(summaries, "all", metrics, warned, published)),
        *([] if published is None else [PUBLISHED_NOTE]),
        "## Metrics over valid responses (mean ± sd)",
        markdown(metric_table(summaries, "valid", metrics, warned)),
        "## Total score, format, length, collapse, displacement",
        OTHER_NOTE,
        markdown(other_table(summaries, warned, results.trainings)),
        "## Response time in seconds",
        TIME_NOTE,
        markdown(time_table(summaries)),
    ]
    return "\n\n".join(parts) + "\n"


def comparison(
    results: Results, summaries: Summaries, compared: pd.DataFrame, equivalence: float
) -> str:
    """Intervals and paired tests, as Markdown.

    Args:
        results: All candidates' answers.
        summaries: Their numbers.
        compared: What `persodpo.report.comparison.compare` gives.
        equivalence: The share of a measure's width that is of no importance.
    """
    warned = collapses(summaries, results.starts)
    parts = [
        "# Which differences are more than chance",
        _comparison_note(results, equivalence),
        *_mixed(results),
        *_warnings(warned),
        *_displaced(results),
        *_gains(results, compared),
        "## In short",
        markdown(_in_short(results, compared), "Difference"),
        "## Means over all responses",
        markdown(interval_table(results, valid_only=False)),
        "## Means over valid responses",
        markdown(interval_table(results, valid_only=True)),
    ]
    for title, note, table in _comparisons(results, compared):
        parts += [f"## {title}", note, markdown(table, "Method")]
    return "\n\n".join(parts) + "\n"


def differences_of(method: str, results: Results, compared: pd.DataFrame) -> str:
    """What one method differs in from others, each in a row, as Markdown; empty if from nobody."""
    rows = compared[compared["method"] == method]
    if rows.empty:
        return ""
    return f"{DIFFERENCES_NOTE}\n\n{markdown(_in_short(results, rows), 'Difference')}"


def _in_short(results: Results, compared: pd.DataFrame) -> pd.DataFrame:
    return verdict_table(compared, results.measures(), results.audit_keys())


def _comparisons(results: Results, compared: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """A title, a note and a table of texts per candidate that the methods are compared with."""
    return [
        (
            f"Compared with {against}",
            f"Method minus {against} on the same {rows['n'].iloc[0]} prompts.",
            comparison_table(rows, results.measures()),
        )
        for against, rows in compared.groupby("against", sort=False)
    ]


def _comparison_note(results: Results, equivalence: float) -> str:
    few = f"\n\n{FEW_NOTE}" if len(set(results.clusters())) < FEW_PROMPTS else ""
    note = COMPARISON_NOTE.format(equivalence=f"{100 * equivalence:g}%")
    return f"{count_prompts(results.clusters())}. {note}{few}"


def count_prompts(clusters: Sequence[str]) -> str:
    """How many prompts there are, of these dialogues, and of how many, if these are fewer."""
    n, dialogues = len(clusters), len(set(clusters))
    return f"{n} prompts" + (f" of {dialogues} dialogues" if dialogues < n else "")


def _mixed(results: Results) -> list[str]:
    """A warning where answers were computed in different number formats or on different devices."""
    computed = results.computed()
    if len({each for kinds in computed.values() for each in kinds}) < 2:
        return []
    kinds = "; ".join(f"{name}: {' and '.join(kinds)}" for name, kinds in computed.items())
    return [
        f"{WARNING} The answers were computed in different number formats or on different devices, "
        f"whose roundings alone can change answers, so don't compare them ({kinds}). Run "
        "dvc repro --force on one machine, with generate.dtype set to float32 or bfloat16."
    ]


def audit_document(results: Results) -> str:
    """What the audit found, as Markdown."""
    parts = [
        "# Can each metric see what it is named for?",
        AUDIT_NOTE,
        *_audit_warnings(results),
        markdown(audit_table(results.findings, results.metrics), "Metric"),
        "## Rank correlations over golden answers",
        markdown(correlation_table(results.findings, results.metrics), "Metric"),
    ]
    return "\n\n".join(parts) + "\n"


def _audit_warnings(results: Results) -> list[str]:
    """A sentence about each metric that forms pairs and doesn't pass the audit."""
    found = audit_warnings(
        results.findings, results.pairs["values"], results.metrics, results.weights
    )
    return [f"{WARNING} {sentence}" for sentence in found]


def _pair_warnings(results: Results) -> list[str]:
    """A sentence about each check of the pairs whose limit is exceeded."""
    return [f"{WARNING} {sentence}" for sentence in results.pairs["excess"]]


def _gains(results: Results, compared: pd.DataFrame) -> list[str]:
    """A sentence about each method that gains on the metrics of its pairs only."""
    return [
        f"{WARNING} {sentence}"
        for _, rows in compared.groupby("against", sort=False)
        for sentence in one_sided_gains(rows, results.metrics, results.weights)
    ]


def _displaced(results: Results) -> list[str]:
    """A sentence about each training in which the chosen answers became less likely."""
    found = []
    for name, numbers in results.trainings.items():
        if "displaced_step" in numbers:
            end = f"after step {numbers['kept_step']} is taken" if "kept_step" in numbers else ""
            found.append(
                f"{WARNING} In the training of {name} the chosen answers became less likely by "
                f"step {numbers['displaced_step']}, beyond the limits of train.guard"
                f"{f'; the policy {end}' if end else ''}."
            )
    return found


def _warnings(warned: Mapping[str, str]) -> list[str]:
    return [f"{WARNING} {sentence}" for sentence in warned.values()]


def _pair_sets(results: Results) -> str:
    return "; ".join(
        f"{name}: {numbers['pairs']} pairs over {numbers['prompts']} prompts"
        for name, numbers in results.pairs.items()
        if "pairs" in numbers
    )


def _versions(results: Results) -> str:
    versions = ", ".join(f"{each.label} {each.version}" for each in results.metrics.values())
    return f"Versions: {versions}."


def facts(results: Results, params: Params) -> dict[str, str]:
    """What the page's head says of the run."""
    return {
        "Trained model": params.trained_model().model if params.train.methods else "none",
        "Validation prompts": count_prompts(results.clusters()),
        "Training prompts": str(params.sample.n_train),
        "Pool": ", ".join(params.pool),
        "Training pairs": _pair_sets(results),
        "Scorers": _versions(results).removeprefix("Versions: ").removesuffix("."),
    }


def page_blocks(
    results: Results,
    summaries: Summaries,
    compared: pd.DataFrame,
    equivalence: float,
    published: pd.DataFrame,
    svgs: Mapping[str, str],
) -> list[Block]:
    """The tables and figures of the page, in their order."""
    warned = collapses(summaries, results.starts)
    sentences = [*_mixed(results), *_warnings(warned), *_displaced(results)]
    warnings = "\n\n".join([*sentences, *_audit_warnings(results), *_pair_warnings(results)])
    return [
        Block(
            "Metrics over all responses",
            f"Mean ± sd; a failed response has the worst values. {SCORERS_NOTE}\n\n"
            f"{PUBLISHED_NOTE}\n\n{warnings}",
            metric_table(summaries, "all", results.metrics, warned, published),
        ),
        Block(
            "Metrics over valid responses",
            "Mean ± sd.",
            metric_table(summaries, "valid", results.metrics, warned),
        ),
        Block(
            "Total score, format, length, collapse, displacement",
            OTHER_NOTE,
            other_table(summaries, warned, results.trainings),
        ),
        Block(
            "Differences in short",
            "\n\n".join([_comparison_note(results, equivalence), *_gains(results, compared)]),
            _in_short(results, compared),
        ),
        Block("Intervals", "", interval_table(results, valid_only=False)),
        Block("Intervals over valid responses", "", interval_table(results, valid_only=True)),
        *(Block(*block) for block in _comparisons(results, compared)),
        Block("Audit of the metrics", AUDIT_NOTE, audit_table(results.findings, results.metrics)),
        Block(
            "Rank correlations of the metrics over golden answers",
            "",
            correlation_table(results.findings, results.metrics),
        ),
        Block("Response time", TIME_NOTE, time_table(summaries)),
        Block("Response time and failure ratio", "", svg=svgs["figure2c"]),
        Block("Loss and gradient norm", "", svg=svgs["figure2a"]),
        Block("Reward margin and accuracy", "", svg=svgs["figure2b"]),
        Block(
            "Pairs",
            "Total scores and words of all responses of the pool and of both sides of the set "
            "persodpo, where a response counts once per pair; margins of both sets.",
            svg=svgs["pairs"],
        ),
        Block("Pairs in numbers", _pair_note(results), _pair_table(results)),
    ]


def _pair_note(results: Results) -> str:
    share = results.pairs["pool"]["valid_overlap"]
    return (
        "From Length d on these are the checks of docs/metrics.md. Of the validation dialogues "
        f"{share:.1%} are close to the training ones."
    )


def _pair_table(results: Results) -> pd.DataFrame:
    sets = {name: each for name, each in results.pairs.items() if "pairs" in each}
    columns: dict[str, Any] = {
        "Pairs": lambda each: f"{each['pairs']:,}",
        "Prompts": lambda each: f"{each['prompts']:,}",
        "Words, chosen": lambda each: _share(each["words_chosen"], ".1f"),
        "Words, rejected": lambda each: _share(each["words_rejected"], ".1f"),
        "Chosen longer": lambda each: _share(each["chosen_longer"], ".0%"),
        "Rejected invalid": lambda each: _share(each["rejected_invalid"], ".0%"),
        "Median margin": lambda each: _share(each["margin"]["median"], ".2f"),
        "Length d": lambda each: _share(each["checks"]["length_d"], "+.2f"),
        "Near duplicates": lambda each: _share(each["checks"]["near_duplicates"], ".0%"),
        "Conflicting": lambda each: _share(each["checks"]["conflicting_texts"], ".0%"),
        "Decided by format": lambda each: _share(each["checks"]["decided_by_format"], ".0%"),
        "By length": lambda each: _share(each["checks"]["decided_by_length"], ".0%"),
        "By both": lambda each: _share(each["checks"]["decided_by_both"], ".0%"),
    }
    return pd.DataFrame(
        {title: [text(each) for each in sets.values()] for title, text in columns.items()},
        index=list(sets),
    )


def _share(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)
