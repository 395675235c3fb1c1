"""Training of a judge of personas: pairs, fitted numbers, and a small one from end to end."""

import json

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from test_nli import captions, params
from tiny_models import make_bert

from persodpo.errors import UserError
from persodpo.records import read_rows
from persodpo.score.consistency import Consistency
from persodpo.score.entailment import Entailment
from persodpo.score.judges.persona import CONFIG_KEY
from persodpo.score.train_nli import persona_judge
from persodpo.score.train_nli.params import PersonaJudgeParams, load_nli_params
from persodpo.score.train_nli.persona_judge import (
    contradiction_threshold,
    fit_relatedness,
    measure_held_out,
    train_persona_judge,
)
from persodpo.score.train_nli.persona_pairs import (
    STRANGERS,
    MarkRow,
    PersonRow,
    Round,
    pairs_of_marks,
    pairs_of_people,
    pairs_of_rounds,
    read_rounds,
)
from persodpo.score.train_nli.training import train_classifier

SHIPPED = load_nli_params(ROOT / "nli").persona_judges["minilm_persona"]
ROUNDS = [
    Round(
        f"d{n}", 0, (f"I own {n}.", f"I love {n}."), (n % 2 == 0, False), f"It is old. You own {n}."
    )
    for n in range(12)
]
MARKS = [
    MarkRow(dialogue=f"d{n}", round=0, sentence=0, opposite=f"I sold {n}.",
            echo=f"As you own {n}, come.", denial=f"As you sold {n}, come.")
    for n in range(0, 12, 2)
]  # fmt: skip


def last(one, answer):
    return answer.split(". ")[-1]


def test_pairs_by_the_marks():
    pairs = pairs_of_rounds(ROUNDS, last, exchanged=3, rng=np.random.default_rng(0))
    own = pairs.drop_duplicates(["premise", "hypothesis"])
    entailed = own[own["label"] == "entailment"]
    assert set(entailed["premise"]) == {f"I own {n}." for n in range(0, 12, 2)}
    assert all(
        row.premise.removeprefix("I own ") in row.hypothesis for row in entailed.itertuples()
    )
    assert set(own["label"]) == {"entailment", "neutral"}
    # what is exchanged is another dialogue's
    exchanged = len(pairs) - 2 * len(ROUNDS)
    assert 0 < exchanged <= 3 * len(ROUNDS)


def test_pairs_of_what_was_written_for_marks():
    pairs = pairs_of_marks(MARKS, ROUNDS[:4], last)
    rows = {tuple(row) for row in pairs.itertuples(index=False)}
    assert len(pairs) == 4 * 2  # the marks of two dialogues; those of others are left out
    assert ("I sold 0.", "You own 0.", "contradiction") in rows
    assert ("I sold 0.", "As you own 0, come.", "contradiction") in rows
    assert ("I own 0.", "As you own 0, come.", "entailment") in rows
    assert ("I own 0.", "As you sold 0, come.", "contradiction") in rows


def test_pairs_of_people():
    written = [
        PersonRow(persona=f"I own {n}.", echo=f"You own {n}.", denial=f"You sold {n}.",
                  neutral=f"{n} is old.", opposite=f"I sold {n}." if n else None)
        for n in range(10)
    ]  # fmt: skip
    pairs = pairs_of_people(written, np.random.default_rng(0))
    rows = {tuple(row) for row in pairs.itertuples(index=False)}
    assert {("I own 3.", "You own 3.", "entailment"), ("I own 3.", "You sold 3.", "contradiction"),
            ("I own 3.", "3 is old.", "neutral"), ("I sold 3.", "You own 3.", "contradiction"),
            ("I own 3.", "I sold 3.", "contradiction")} <= rows  # fmt: skip
    strangers = len(pairs) - 3 * 10 - 2 * 9
    assert 0 < strangers <= STRANGERS * 10
    for premise, hypothesis, label in rows:
        if label == "neutral" and "old" not in hypothesis:
            assert premise.split()[-1] != hypothesis.split()[-1]


def test_a_cosine_becomes_a_probability():
    class Cosines:
        def __getitem__(self, texts):
            one, answer = texts
            used = one.removeprefix("I own ").removesuffix(".") in answer.split("own ")[1]
            return 0.6 if used and "own" in one else 0.1

    rounds = [each for each in ROUNDS if any(each.used)]
    slope, midpoint = fit_relatedness(rounds, Cosines(), np.random.default_rng(0))
    assert slope > 0
    assert 0.1 < midpoint < 0.6


def test_what_is_measured():
    def judge(pairs):
        yield [
            ((one, answer), [0.9, 0.05, 0.05] if "sold" in one else
             [0.1, 0.1, 0.8] if "own" in one else [0.1, 0.8, 0.1])
            for one, answer in pairs
        ]  # fmt: skip

    found = measure_held_out(judge, ROUNDS, MARKS)
    assert (found["held_out"], found["called"], found["called_falsely"]) == (12, 1, 0)
    # of the twelve sentences with "own" six are used
    assert found["sentences_f1"] == pytest.approx(2 * 6 / (6 + 12))
    assert 0.5 < found["sentences_auc"] < 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0, 0.5))
def test_no_more_answers_are_called_than_may_be(highest, share):
    threshold = contradiction_threshold(highest, share)
    assert 0.5 <= threshold < 1
    if max(highest) < 1 - 1e-6:
        assert np.mean(np.array(highest) > threshold) <= share
    # and none lower would do: with the next value below it more were called
    below = [value for value in highest if value < threshold]
    if below and threshold > 0.5:
        n_above = sum(value > max(below) for value in highest)
        assert n_above > share * (len(highest) - 1) - 1e-9


def test_files_are_read_and_mistakes_reported(tmp_path):
    rounds = read_rounds(ROOT / "data/focus/train.json")
    assert len({each.dialogue for each in rounds}) == 64
    assert all(len(each.persona) == len(each.used) == 5 for each in rounds)
    (tmp_path / "d.json").write_text('{"data": [{"dialogID": "a"}]}')
    with pytest.raises(UserError, match=r"d\.json: can't be read as FoCUS's JSON .*persona"):
        read_rounds(tmp_path / "d.json")
    marks = read_rows(ROOT / "data/persona_sentences/train.jsonl", MarkRow)
    assert len(marks) == 271
    people = read_rows(ROOT / "data/persona_sentences/other.jsonl", PersonRow)
    assert {row.opposite is None for row in people} == {True, False}
    (tmp_path / "s.jsonl").write_text('{"persona": "a", "echo": "b"}')
    with pytest.raises(UserError, match=r"line 1: not a row of type PersonRow \(denial.*; mend it"):
        read_rows(tmp_path / "s.jsonl", PersonRow, "mend it")


def dialogue(each):
    """A round as FoCUS has it."""
    return {"dialogID": each.dialogue, "persona": each.persona,
            "utterance": [{"dialogue1": ["What?", each.answer],
                           "persona_grounding": each.used}]}  # fmt: skip


@pytest.mark.slow
def test_a_judge_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    make_bert(tmp_path / "base", ["x", "y", "z"])
    captions(90).to_csv(tmp_path / "pairs.csv", index=False)
    start = params(base=str(tmp_path / "base"), folder=".", train_file="pairs.csv", epochs=1.0)
    train_classifier(captions(90), start, tmp_path / "models/start")
    document = {"data": [dialogue(each) for each in ROUNDS]}
    (tmp_path / "dialogues.json").write_text(json.dumps(document))
    (tmp_path / "marks.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in MARKS))
    people = [{"persona": "I sail.", "echo": "You sail.", "denial": "You hate boats.",
               "neutral": "Boats are old."}] * 4  # fmt: skip
    (tmp_path / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in people))
    settings = SHIPPED.model_copy(
        update={"start": "start", "dialogues": "dialogues.json", "marks": "marks.jsonl",
                "people": "people.jsonl", "general": 9, "base": str(tmp_path / "base"), "lora_r": 4,
                "epochs": 1.0, "held_out": 0.3, "max_length": 32}
    )  # fmt: skip
    assert isinstance(settings, PersonaJudgeParams)
    folder = tmp_path / "models/judge"
    # a random classifier is sure of nothing, so that its own threshold would be the lowest
    asked = {}

    def threshold(highest, share):
        asked[share] = len(highest)
        return 0.77

    monkeypatch.setattr(persona_judge, "contradiction_threshold", threshold)
    numbers = train_persona_judge(settings, start, tmp_path, folder)
    assert set(numbers["trained_on"]) == {"contradiction", "neutral", "entailment"}
    assert 0 <= numbers["called_falsely"] <= 1
    fitted = json.loads((folder / "config.json").read_text())[CONFIG_KEY]
    assert fitted["encoder"] == settings.encoder
    assert fitted["threshold"] == 0.77
    # of each held-out answer its own persona and others'
    assert asked.keys() == {settings.false_contradictions}
    assert asked[settings.false_contradictions] > 0.3 * len(ROUNDS)
    assert {name: numbers[name] for name in ("slope", "midpoint", "nearest", "threshold")} == {
        name: fitted[name] for name in ("slope", "midpoint", "nearest", "threshold")
    }
    # and it is loaded as any other classifier
    section = {"model": str(folder), "revision": None, "labels": None}
    judge = Consistency(kind="consistency", aggregate="any", **section).judge("scorers.c", 512)
    (found,) = judge([("I own a boat.", "You own a boat.")])
    assert sum(found) == pytest.approx(1, abs=1e-5)
    ue = Entailment(kind="entailment", aggregate="any", second_premise="golden_answer", **section)
    assert ue.judge("scorers.ue", 512)([("I own a boat.", "You own a boat.")]) == [found]
