"""report: all candidates on the validation prompts, in tables, figures and a page.

In: `Evaluated` rows of all candidates, the numbers of pairs and trainings. Out: results/.

    results.py      reads the evaluations: one table of all answers with all their scores
    collapse.py     measures of a model that says the same to everybody
    summary.py      the numbers of each candidate
    audit.py        what the audit found about the metrics
    gains.py        methods that gain on the metrics of their pairs only
    comparison.py   intervals, and each method against base and plain DPO on the same prompts
    published.py    the rows of the paper's Table 1
    tables.py       all tables, as texts
    figures.py      the figures of the paper's Figure 2, and of the pairs, as SVG
    page.py         report.html with its reader for examples; template, style, script in assets/
    documents.py    table1.md, comparison.md and the blocks of the page
    write.py        all files of results/

None of these needs a model library.
"""

from persodpo.report.documents import table_1
from persodpo.report.results import read_results
from persodpo.report.summary import summarise_all
from persodpo.report.write import read_sources, write_results

__all__ = ["read_results", "read_sources", "summarise_all", "table_1", "write_results"]
