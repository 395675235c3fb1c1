"""The split of a difference in S_total into the length term and the rest."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.length_term import difference_parts, main, over_runs

scores = st.floats(0, 1, width=32)


@given(
    st.lists(st.tuples(scores, scores, scores, scores), min_size=1, max_size=8),
    st.floats(0, 2),
    st.randoms(),
)
def test_the_length_term_is_what_the_total_loses_with_it(values, weight, draw):
    """S_total is made here of quality and length, so that what is left must be the quality."""
    ids = [str(n) for n in range(len(values))]
    quality, length, other_quality, other_length = (
        list(each) for each in zip(*values, strict=True)
    )

    def wide(ours, theirs):
        order = draw.sample(range(len(ids)), len(ids))
        return pd.DataFrame({"method": ours, "against": theirs}, index=ids).iloc[order]

    totals = wide(*([q + weight * n for q, n in zip(*both, strict=True)]
                    for both in ((quality, length), (other_quality, other_length))))  # fmt: skip
    parts = difference_parts(totals, wide(length, other_length), "method", "against", weight)
    expected = [ours - theirs for ours, theirs in zip(quality, other_quality, strict=True)]
    parts = parts.loc[ids]
    assert parts["rest"].tolist() == pytest.approx(expected, abs=1e-6)
    assert (parts["length"] + parts["rest"]).tolist() == pytest.approx(parts["total"].tolist())


def test_the_last_columns_are_over_prompts_that_both_answered_in_the_format(capsys):
    """Counted here another way, from the values of the committed run."""
    folders = sorted((ROOT / "results/laptop").glob("seed_*"))
    main([str(folder) for folder in folders])
    row = next(
        [cell.strip() for cell in line.split("|")[2:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("| persodpo - sft ")
    )
    weight = yaml.safe_load((folders[0] / "params.yaml").read_text())["scoring"]["w1"]
    of_runs = []
    for folder in folders:
        values = pd.read_csv(folder / "results/scores.csv").set_index(["id", "candidate"])
        values["rest"] = values["s_total"] - weight * values["s_length"]
        wide = values[["rest", "failed"]].unstack()
        failed = wide["failed"]["persodpo"] + wide["failed"]["sft"]
        of_runs.append((wide["rest"]["persodpo"] - wide["rest"]["sft"])[failed == 0])
    both = pd.concat(of_runs, axis=1).dropna()
    assert row[3] == str(len(both)) != "300"
    assert float(re.match(r"\S+", row[4])[0]) == pytest.approx(both.to_numpy().mean(), abs=0.005)
    findings = (ROOT / "docs/findings.md").read_text()
    assert f"| {row[2]} | {row[4]} ({row[3]}) |" in findings


@pytest.mark.parametrize("runs", [1, 2])
def test_candidates_that_are_never_valid_together_have_no_mean(runs):
    assert over_runs(np.empty((runs, 0)), np.empty(0, dtype=str)) == "n/a"
