"""Batches by tokens: every text once, the longest first, none larger than allowed."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import make_bert
from transformers import AutoTokenizer

from persodpo.score.judges.batches import padded_batches


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    make_bert(folder, ["a", "b", "c"])
    return AutoTokenizer.from_pretrained(folder)


@given(lengths=st.lists(st.integers(1, 30), max_size=20), most=st.integers(1, 90))
def test_batches(lengths, most, tokenizer):
    encoded = {"input_ids": [[row + 4] * length for row, length in enumerate(lengths)],
               "attention_mask": [[1] * length for length in lengths]}  # fmt: skip
    batches = list(padded_batches(encoded, tokenizer, most))
    assert sorted(row for rows, _ in batches for row in rows) == list(range(len(lengths)))
    for rows, batch in batches:
        texts, width = batch["input_ids"].shape
        assert texts == len(rows) == 1 or texts * width <= most
        for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
            assert ids[mask.bool()].tolist() == encoded["input_ids"][row]
    widths = [batch["input_ids"].shape[1] for _, batch in batches]
    assert widths == sorted(widths, reverse=True)
    # no batch could have taken the next one's longest text
    for (rows, _), (later, _) in pairwise(batches):
        assert (len(rows) + 1) * lengths[rows[0]] > most
        assert lengths[later[0]] <= min(lengths[row] for row in rows)


def test_what_takes_longer_than_a_second_shows_how_far_it_is(tokenizer, capsys):
    encoded = {"input_ids": [[4, 5]] * 3, "attention_mask": [[1, 1]] * 3}
    list(padded_batches(encoded, tokenizer, 2))
    assert capsys.readouterr().err == ""
    for _ in padded_batches(encoded, tokenizer, 2):
        time.sleep(0.6)
    assert "Judging: 100%" in capsys.readouterr().err
