"""scores.csv: written, read, and refused."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.report.measures import Measure
from persodpo.report.scores import OTHERS, PromptScores, read_scores, write_scores

MEASURES = {"s_total": Measure("S_total ↑", 1.5, True), "failed": Measure("Fails ↓", 1.0, False)}
COLUMNS = ["candidate", "id", "dialogue", *MEASURES, *OTHERS]
numbers = st.floats(-1e3, 1e3)
names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6
)


@given(
    candidates=st.lists(names, min_size=1, max_size=3, unique=True),
    prompts=st.dictionaries(names, names, min_size=1, max_size=4),
    data=st.data(),
)
def test_what_is_written_is_read(tmp_path_factory, candidates, prompts, data):
    rows = [
        [candidate, id_, dialogue, *data.draw(st.tuples(*[numbers] * 4))]
        for candidate in candidates
        for id_, dialogue in prompts.items()
    ]
    scores = PromptScores(pd.DataFrame(rows, columns=COLUMNS))
    file = tmp_path_factory.mktemp("scores") / "scores.csv"
    write_scores(scores, file)
    read = read_scores(file, candidates, MEASURES)
    pd.testing.assert_frame_equal(read.table, scores.table, rtol=1e-7)
    assert read.ids() == list(prompts)
    assert read.clusters() == list(prompts.values())
    wide = read.values("s_total")
    assert list(wide.index) == list(prompts)
    assert list(wide.columns) == candidates
    assert wide.to_numpy().T.ravel() == pytest.approx(scores.table["s_total"].to_numpy())


def table(text):
    return "candidate,id,dialogue,s_total,failed,s_length,words\n" + text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "can't be read"),
        ("candidate,id\nbase,a\n", "can't be read"),
        (table("base,a,d,x,0,0,1\n"), "can't be read"),
        (table("base,a,d,,0,0,1\n"), "can't be read"),
        (table(""), "it must have each prompt once for each of base, dpo"),
        (table("base,a,d,1,0,0,1\n"), "it must have each prompt once"),
        (table("base,a,d,1,0,0,1\ndpo,a,d,1,0,0,1\ndpo,b,d,1,0,0,1\n"), "each prompt once"),
        (table("base,a,d,1,0,0,1\nbase,a,d,0,0,0,1\ndpo,b,d,1,0,0,1\ndpo,a,d,1,0,0,1\n"),
         "each prompt once"),
        (table("other,a,d,1,0,0,1\n"), "each prompt once"),
        (b"\xff\xfe\x00", "can't be read"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused(tmp_path, text, sentence):
    file = tmp_path / "scores.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        read_scores(file, ["base", "dpo"], MEASURES)
    assert sentence in str(caught.value)
    assert "dvc repro --force --single-item report" in str(caught.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"scores\.csv: can't be read"):
        read_scores(tmp_path / "scores.csv", ["base"], MEASURES)
