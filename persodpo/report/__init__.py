"""report: all candidates on the validation prompts, in tables, figures and a page.

In: `Evaluated` rows of all candidates, the numbers of pairs and trainings. Out: results/.

    results.py      reads the evaluations: one table of all answers with all their scores
    collapse.py     measures of a model that says the same to everybody
    summary.py      the numbers of each candidate
    audit.py        what the audit found about the metrics
    gains.py        methods that gain on the metrics of their pairs only
    measures.py     what candidates are compared by
    scores.py       scores.csv: every value of every candidate on every prompt
    comparison.py   intervals, and each method against others on the same prompts
    verdicts.py     what a difference says, and what so many prompts can show
    published.py    the rows of the paper's Table 1
    tables.py       all tables, as texts
    figures.py      the figures of the paper's Figure 2, and of the pairs, as SVG
    page.py         report.html with its reader for examples; template, style, script in assets/
    notes.py        how to read the tables, above them
    documents.py    table1.md, comparison.md and the blocks of the page
    write.py        all files of results/

None of these needs a model library.
"""

from persodpo.report.comparison import paired_differences
from persodpo.report.documents import audit_document, count_prompts, differences_of, table_1
from persodpo.report.measures import Measure, declared_measures
from persodpo.report.results import Results, read_results
from persodpo.report.scores import FILE as SCORES_FILE
from persodpo.report.scores import PromptScores, read_scores
from persodpo.report.summary import summarise_all
from persodpo.report.tables import interval_text, markdown
from persodpo.report.verdicts import verdict
from persodpo.report.write import (
    CANDIDATES_FILE,
    compare_methods,
    compared_pairs,
    read_sources,
    write_results,
)

__all__ = [
    "CANDIDATES_FILE",
    "SCORES_FILE",
    "Measure",
    "PromptScores",
    "Results",
    "audit_document",
    "compare_methods",
    "compared_pairs",
    "count_prompts",
    "declared_measures",
    "differences_of",
    "interval_text",
    "markdown",
    "paired_differences",
    "read_results",
    "read_scores",
    "read_sources",
    "summarise_all",
    "table_1",
    "verdict",
    "write_results",
]
