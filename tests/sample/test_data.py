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


@pytest.mark.parametrize("split", SPLITS)
def test_grounding_marks_reach_the_dialogues(split):
    marks = {d.id: d.persona_grounding for d in read_dialogues(ROOT / f"data/focus/{split}.json")}
    for entry in SPLITS[split]:
        assert marks[entry["dialogID"]] == tuple(entry["utterance"][-1]["persona_grounding"])


def written(name):
    lines = (ROOT / f"data/persona_sentences/{name}.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_the_card_counts_the_rows():
    card = (ROOT / "data/README.md").read_text()
    for name in ("train", "valid", "other"):
        assert f"| `persona_sentences/{name}.jsonl` | {len(written(name))} |" in card


def round_of(row):
    """The dialogue and the round that a row was written for."""
    (entry,) = [e for split in SPLITS.values() for e in split if e["dialogID"] == row["dialogue"]]
    if "round" in row:
        return entry, entry["utterance"][row["round"]]
    assert row["persona"] == entry["persona"]
    (round_,) = [
        u
        for k, u in enumerate(entry["utterance"], start=1)
        if u[f"dialogue{k}"][-1] == row["answer"]
    ]
    turns = entry["utterance"][-1][f"dialogue{len(entry['utterance'])}"]
    assert row["turns"] == turns[: turns.index(row["answer"])]
    return entry, round_


@pytest.mark.parametrize(
    ("split", "texts"), [("train", ["opposite", "echo", "denial"]), ("valid", ["opposite"])]
)
def test_what_is_written_by_hand_belongs_to_a_mark(split, texts):
    rows = written(split)
    places = []
    for row in rows:
        entry, round_ = round_of(row)
        assert entry in SPLITS[split]
        assert round_["persona_grounding"][row["sentence"]] is True
        assert not {row[text] for text in texts} & set(entry["persona"])
        places.append((row["dialogue"], id(round_), row["sentence"]))
    assert len(set(places)) == len(places)
    sentences = [row[text] for row in rows for text in texts]
    assert all(sentence.strip() for sentence in sentences)
    assert len(set(sentences)) == len(sentences)
    if split == "train":
        of = [
            sum(map(sum, (u["persona_grounding"] for u in e["utterance"]))) for e in SPLITS[split]
        ]
        assert len(rows) == sum(of)


def test_no_persona_sentence_of_nobody_is_somebodys():
    rows = written("other")
    names = ("persona", "opposite", "echo", "denial", "neutral")
    texts = [row[name] for row in rows for name in names if name in row]
    assert all(text.strip() for text in texts)
    assert sum("opposite" in row for row in rows) == 1396
    assert len(set(texts)) == len(texts)
    assert not {row["persona"] for row in rows} & {s for entry in ALL for s in entry["persona"]}
