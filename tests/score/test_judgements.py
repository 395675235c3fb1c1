"""Judgements are kept: each input is judged once, by the judge it was kept for."""

import math
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.score.judges.judgements import cached_judge

IDENTITY = {"judge": "length", "version": 1, "weights": "a"}


class Length:
    """Says how long each text is, in batches of two, and counts what it is asked."""

    def __init__(self):
        self.loaded = 0
        self.asked = []

    def load(self):
        self.loaded += 1
        return self

    def __call__(self, inputs):
        for start in range(0, len(inputs), 2):
            batch = inputs[start : start + 2]
            self.asked += batch
            yield [(texts, [float(len(t)) for t in texts] or None) for texts in batch]


inputs = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=3)), max_size=9)


@pytest.mark.slow
@given(first=inputs, second=inputs)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_input_is_judged_once_in_any_order(first, second, tmp_path_factory):
    folder, length = tmp_path_factory.mktemp("kept"), Length()
    judge = cached_judge(IDENTITY, length.load, folder)
    for asked in (first, first[::-1], second, first + second):
        assert judge(asked) == [[float(len(a)), float(len(b))] for a, b in asked]
    assert len(length.asked) == len(set(length.asked)) == len(set(first + second))
    # another process, or the next run: nothing is loaded
    again = Length()
    assert cached_judge(IDENTITY, again.load, folder)(first) == judge(first)
    assert again.loaded == 0


@pytest.mark.parametrize("change", [{"version": 2}, {"weights": "b"}, {"judge": "x"}, {"n": None}])
def test_another_judge_is_never_served(tmp_path, change):
    cached_judge(IDENTITY, Length().load, tmp_path)([("a", "b")])
    length = Length()
    cached_judge(IDENTITY | change, length.load, tmp_path)([("a", "b")])
    assert length.asked == [("a", "b")]


def test_texts_are_told_apart(tmp_path):
    length = Length()
    asked = [("ab", ""), ("a", "b"), ("", "ab"), ("ab",), ("a", "b", ""), ("\ud800", "x")]
    cached_judge(IDENTITY, length.load, tmp_path)(asked)
    assert length.asked == asked


def test_what_cannot_be_told_is_kept_too(tmp_path):
    length = Length()
    judge = cached_judge(IDENTITY, length.load, tmp_path)
    assert judge([()]) == judge([()]) == [None]
    assert length.asked == [()]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(tmp_path):
    """Each batch is kept before the next is judged."""
    code = f"""
import os, sys
sys.path.insert(0, "tests/score")
from test_judgements import IDENTITY, Length
from persodpo.score.judges.judgements import cached_judge
from pathlib import Path
class Dies(Length):
    def __call__(self, inputs):
        for number, batch in enumerate(super().__call__(inputs)):
            if number == 3:
                os._exit(9)
            yield batch
cached_judge(IDENTITY, Dies().load, Path({str(tmp_path)!r}))([(str(i),) for i in range(20)])
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    length = Length()
    values = cached_judge(IDENTITY, length.load, tmp_path)([(str(i),) for i in range(20)])
    assert values == [[float(len(str(i)))] for i in range(20)]
    assert len(length.asked) == 14


def test_what_is_no_number_is_reported_and_not_kept(tmp_path):
    def broken():
        return lambda inputs: iter([[(texts, [0.5, math.nan]) for texts in inputs]])

    with pytest.raises(UserError, match=r"the judge 'length' .* gave \[0.5, nan\], which is no"):
        cached_judge(IDENTITY, broken, tmp_path)([("a", "b")])
    assert cached_judge(IDENTITY, Length().load, tmp_path)([("a", "b")]) == [[1.0, 1.0]]


def test_a_model_that_cannot_be_loaded_is_not_the_caches_fault(tmp_path):
    def absent():
        raise OSError("no such model")

    with pytest.raises(OSError, match="no such model"):
        cached_judge(IDENTITY, absent, tmp_path)([("a", "b")])


def test_a_place_where_nothing_can_be_kept_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/x: the kept judgements have no place there \(Not a"):
        cached_judge(IDENTITY, Length().load, tmp_path / "file/x")([("a", "b")])


def test_a_damaged_file_is_reported(tmp_path):
    cached_judge(IDENTITY, Length().load, tmp_path)([("a", "b")])
    for file in tmp_path.glob("cache.db*"):
        file.write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=r"the kept judgements can't be read .* delete the folder"):
        cached_judge(IDENTITY, Length().load, tmp_path)([("a", "b")])
