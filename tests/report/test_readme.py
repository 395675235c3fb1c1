"""README.md shows what the last run gave."""

import subprocess

import pytest
from conftest import ROOT

from persodpo.workflow import load_params

# README's columns, and what they are called in results/comparison.md.
COLUMNS = {
    "S_total": "S_total ↑",
    "Failure ratio": "Failure ratio ↓",
    "Likeness to the golden answer": "Golden-MiniLM (audit) ↑",
}


def test_the_readme_shows_the_committed_results():
    """The figures of the last run in README.md are those of results/comparison.md, as in git."""
    if not (ROOT / ".git").exists():
        pytest.skip("not in git")
    readme, comparison = (
        subprocess.run(["git", "show", f"HEAD:{name}"], cwd=ROOT, check=True, capture_output=True,
                       text=True).stdout
        for name in ("README.md", "results/comparison.md")
    )  # fmt: skip
    shown = _rows(readme.split("\n## What comes out\n")[1].split("\n## ")[0])
    rows = [row for row in shown if row[0].startswith("`")]
    differences = [row for row in rows if " - " in row[0]]
    means = [row for row in rows if row not in differences]
    assert [row[0].strip("`") for row in means] == load_params(ROOT / "params.yaml").candidates()
    assert len(differences) == 3
    assert [row[1:4] for row in shown if row[0] == "Candidate"] == [list(COLUMNS)]
    (table,) = [part for part in comparison.split("\n## ") if part.startswith("Means over all")]
    head, *means_of = _rows(table)
    places = [head.index(title) for title in COLUMNS.values()]
    by_name = {row[0]: [row[place] for place in places] for row in means_of}
    for name, *cells in (row[:4] for row in means):
        assert cells == by_name[name.strip("`")], name
    (table,) = [part for part in comparison.split("\n## ") if part.startswith("In short")]
    totals = {row[0]: row[1] for row in _rows(table)}
    for name, total in (row[:2] for row in differences):
        assert total == totals[name.strip("`")], name


def _rows(text):
    """The cells of all rows of tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
