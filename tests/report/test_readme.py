"""README.md shows what the last run gave."""

import subprocess

import pytest
from conftest import ROOT

from persodpo.workflow import load_params


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
    committed = {row[0]: row for row in _rows(comparison)[::-1]}  # of two the first
    for name, *cells in [*(row[:4] for row in means), *(row[:2] for row in differences)]:
        assert set(cells) <= set(committed[name.strip("`")]), name


def _rows(text):
    """The cells of all rows of tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
