"""The committed runs of results/laptop: they can be read, and give the figures beside them."""

import re

import pytest
from conftest import ROOT

from persodpo.experiments import not_averaged, read_runs, seed_tables
from persodpo.intervals import mean_interval
from persodpo.report import interval_text, paired_differences

RUNS = sorted((ROOT / "results/laptop").glob("seed_*"))


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_committed_run_gives_its_figures(folder, monkeypatch):
    """S_total and its differences, from scores.csv alone, are those of comparison.md."""
    monkeypatch.chdir(ROOT)
    (run,), _ = read_runs([str(folder)])
    assert folder.name == f"seed_{run.seed}"
    comparison = (folder / "results/comparison.md").read_text()
    means, (clusters, totals) = {}, (run.scores.clusters(), run.scores.values("s_total"))
    for name in run.scores.candidates():
        means[name] = interval_text(mean_interval(totals[name].to_numpy(), clusters=clusters))
    for against, method in run.compared():
        differences = paired_differences(totals[method].to_numpy(), totals[against].to_numpy())
        interval = mean_interval(differences, clusters=clusters)
        means[f"{method} - {against}"] = interval_text(interval, "+")
    for name, text in means.items():
        row = re.escape(name) + r" +\|( \d+ +\|)? " + re.escape(text) + r" +\|"
        assert re.search(r"^\| " + row, comparison, re.MULTILINE), (name, text)


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_a_committed_run_names_no_folder_of_a_machine(folder):
    """The profile's `$logs` stands for the folder of the published files."""
    for name in ("params.yaml", "dvc.lock"):
        assert not re.search(r"""[ "'](/|[A-Z]:\\)""", (folder / name).read_text()), name


def test_there_is_a_committed_run():
    assert RUNS


@pytest.mark.slow
def test_the_means_over_seeds_are_those_of_the_runs(monkeypatch):
    """seeds.md is what the command prints."""
    monkeypatch.chdir(ROOT)
    names = [str(folder.relative_to(ROOT)) for folder in RUNS]
    runs, _ = read_runs(names)
    assert not_averaged(runs) == []
    assert seed_tables(runs).strip() == (ROOT / "results/laptop/seeds.md").read_text().strip()
