"""The embedded sample keeps what its card promises."""

import json
from collections import Counter

import pytest
from conftest import ROOT

from persodpo.sample.readers import read_dialogues

SPLITS = {
    split: json.loads((ROOT / f"data/focus/{split}.json").read_text())["data"]
    for split in ("train", "valid")
}
ALL = [entry for entries in SPLITS.values() for entry in entries]


def test_enough_dialogues_and_no_landmark_in_both_splits():
    assert len(SPLITS["train"]) >= 48
    assert len(SPLITS["valid"]) >= 24
    landmarks = [entry["landmark_link"] for entry in ALL]
    assert len(set(landmarks)) == len(landmarks) == len(ALL)


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry["dialogID"])
def test_each_dialogue(entry):
    assert len(entry["persona"]) == 5
    assert 3 <= len(entry["utterance"]) <= 5
    turns: list[str] = []
    for k, round_ in enumerate(entry["utterance"], start=1):
        longer = round_[f"dialogue{k}"]
        assert longer[:-2] == turns
        turns = longer
        assert round_["persona_candidate"] == entry["persona"]
        assert len(round_["persona_grounding"]) == 5
        assert round_["knowledge_candidates"] == entry["knowledge"]
        assert 0 <= round_["knowledge_answer_index"] < len(entry["knowledge"])
    assert any(entry["utterance"][-1]["persona_grounding"])
    assert len(turns[-1].split()) <= 60


def test_nothing_is_repeated():
    sentences = Counter(sentence for entry in ALL for sentence in entry["persona"])
    assert max(sentences.values()) == 1
    turns = Counter(
        turn
        for entry in ALL
        for turn in entry["utterance"][-1][f"dialogue{len(entry['utterance'])}"]
    )
    assert [turn for turn, count in turns.items() if count > 1] == []


def test_our_own_reader_reads_it():
    assert len(read_dialogues(ROOT / "data/focus/train.json")) == len(SPLITS["train"])
