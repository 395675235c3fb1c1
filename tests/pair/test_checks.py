"""Checks of the pairs: what a model could learn from them besides what it should."""

import shutil
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import assume, given
from hypothesis import strategies as st
from scored import prompt, response
from workspace import change_params

import stages.pair
from persodpo.errors import UserError
from persodpo.pair.checks import (
    Overlap,
    check_numbers,
    conflicting_texts,
    near_duplicates,
    report_excess,
    valid_overlap,
)
from persodpo.records import Score, write_rows
from persodpo.runner import ARTIFACTS, read_json
from persodpo.workflow.params import load_params

WHOLE = load_params(ROOT / "params.yaml")
SCORING = WHOLE.scoring.model_copy(update={"w1": 0.3, "w2": 0.2})


def table(*rows):
    """Responses: prompt, answer, words, S_metric, s_length, s_format."""
    frame = pd.DataFrame(
        rows, columns=["id", "answer", "words", "s_metric", "s_length", "s_format"]
    )
    frame["raw"] = frame["answer"]
    frame["valid"] = frame["s_format"] == 1
    frame["s_total"] = frame["s_metric"] + 0.3 * frame["s_length"] + 0.2 * frame["s_format"]
    return frame


def check(rows, *places):
    pairs = pd.DataFrame(places, columns=["chosen", "rejected"], dtype=int)
    return check_numbers(pairs, rows, rows["raw"], SCORING)


def test_a_worked_example():
    rows = table(
        ("p", "You love castles and towers.", 10, 0.9, 0.0, 1.0),
        ("p", "You LOVE castles, and towers!", 20, 0.9, 0.0, 0.0),  # nearly the first one
        ("p", "It is a bridge over the river.", 30, 0.5, 1.0, 1.0),
        ("q", "No.", 40, 0.5, 0.0, 1.0),
        ("q", "Why?", 40, 0.45, 0.0, 1.0),
    )
    found = check(rows, (0, 1), (0, 2), (3, 4), (2, 1))
    assert found["length_d"] == pytest.approx(
        (np.mean([10, 10, 40, 30]) - np.mean([20, 30, 40, 20]))
        / ((np.var([10, 10, 40, 30], ddof=1) + np.var([20, 30, 40, 20], ddof=1)) / 2) ** 0.5
    )
    assert found["near_duplicates"] == 1 / 4
    # the first pair is of a valid answer and another, and even without the format; the last one,
    # too, turns without the format (.8 against .9), and without the length (.7 against .9)
    assert found["decided_by_format"] == 2 / 4
    assert found["decided_by_length"] == 1 / 4
    assert found["decided_by_both"] == 2 / 4
    # the third answer is rejected in one pair and chosen in another, as the middle of a ranking is
    assert found["conflicting_texts"] == 0.0
    assert set(check(rows).values()) == {None}


def test_a_failed_answer_loses_by_the_format_whatever_its_weight():
    rows = table(("p", "Yes, it does.", 3, 0.9, 0.0, 1.0), ("p", "{oh", 1, 0.0, 0.0, 0.0))
    found = check(rows, (0, 1))
    assert (found["decided_by_format"], found["decided_by_both"]) == (1.0, 0.0)


def test_a_pair_that_scores_do_not_decide_is_not_decided_by_a_term():
    """Of valid_invalid a rejected answer may have the higher score."""
    rows = table(("p", "Yes, it does.", 3, 0.2, 0.0, 1.0), ("p", "It does so", 3, 0.9, 1.0, 0.0))
    found = check(rows, (0, 1))
    assert (found["decided_by_length"], found["decided_by_both"]) == (0.0, 0.0)


LONG = [f"word{i}" for i in range(60)]


@pytest.mark.parametrize(
    ("one", "other", "is_near"),
    [
        ("It was built in 1890, I think.", "it was built in 1890 i think", True),
        (" ".join(LONG), " ".join([*LONG[:20], "other", *LONG[21:40], "other", *LONG[41:]]), True),
        (" ".join(LONG), " ".join(["x", *LONG[1:20], "y", *LONG[21:40], "z", *LONG[41:50], "a",
                                   *LONG[51:]]), False),
        ("Yes.", "yes", True),
        ("Yes.", "No.", False),
        ("Yes.", "Yes, it is.", False),
        ("Yes.", "", False),
        ("", "...", True),
        ("I like old castles.", "I like new castles.", False),
    ],
)  # fmt: skip
def test_what_is_nearly_the_same(one, other, is_near):
    assert near_duplicates([one, other], np.array([0]), np.array([1])) == is_near


@pytest.mark.parametrize(
    ("pairs", "conflicting"),
    [
        ("a>b b>c a>c", 0),  # the middle of a ranking
        ("a>b b>c A>c a>C", 0),  # alike and of the same rank
        ("a>A", 1),  # over itself
        ("a>b b>A", 1),  # over and under the same third one
        ("a>b B>A", 1),
        ("a>b b>c c>A", 1),  # round in a ring
        ("a>b x>y y>X", 1 / 2),  # in one of two prompts
    ],
)
def test_what_contradicts_itself(pairs, conflicting):
    """Letters to m are texts of one prompt, later ones those of another; case doesn't count."""
    nodes = sorted({text for pair in pairs.split() for text in pair.split(">")})
    chosen, rejected = (
        np.array([nodes.index(pair.split(">")[side]) for pair in pairs.split()]) for side in (0, 1)
    )
    prompts = pd.Series(["p" if text.lower() <= "m" else "q" for text in nodes])
    texts = pd.Series([f" {text}  text" for text in nodes])
    assert conflicting_texts(prompts, texts, chosen, rejected) == conflicting


@given(st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from("abcABC"), st.integers(0, 3)),
                min_size=2, max_size=9))  # fmt: skip
def test_texts_conflict_exactly_if_no_ranking_agrees(rows):
    """All pairs by score, against all rankings of each prompt's texts."""
    frame = pd.DataFrame(rows, columns=["id", "text", "score"])
    places = [
        (one, two)
        for one, two in permutations(range(len(rows)), 2)
        if rows[one][0] == rows[two][0] and rows[one][2] > rows[two][2]
    ]
    assume(places)
    share = conflicting_texts(frame["id"], frame["text"], *np.array(places).T)
    by_prompt = {}
    for one, two in places:
        pair = (rows[one][1].lower(), rows[two][1].lower())
        by_prompt.setdefault(rows[one][0], set()).add(pair)
    conflicts = [
        not any(all(r.index(a) < r.index(b) for a, b in edges) for r in permutations("abc"))
        for edges in by_prompt.values()
    ]
    assert share == np.mean(conflicts)


def test_validation_dialogues_in_the_training_data():
    text = "The old harbour was built by monks in the twelfth century and burnt down twice."
    train = [prompt(turns=["Hello there.", "Hi.", "When?"], golden_answer=text)]
    same = prompt(turns=["How old is it?"], golden_answer=text.upper(), id_="same")
    other = prompt(turns=["Hello there."], golden_answer="Nobody knows, the papers were all lost "
                   "when the town hall burnt.")  # fmt: skip
    greeting = prompt(turns=["Hello there."], golden_answer="Hi.")
    others = [other.model_copy(update={"id": id_}) for id_ in "abc"]
    assert valid_overlap(train, [others[0], same, *others[1:]]) == (0.25, ["same"])
    # by dialogues, whatever number of prompts each gives
    rounds = [
        each.model_copy(update={"dialogue": name})
        for each, name in ((others[0], "d"), (same, "d"), (others[1], "e"), (others[2], "e"))
    ]
    assert valid_overlap(train, rounds) == (0.5, ["d"])
    assert valid_overlap(train, [greeting]) == (0.0, [])
    # a persona isn't what is evaluated
    assert valid_overlap([prompt(persona=[text])], [prompt(persona=[text])]).share == 0.0


NUMBERS = {"length_d": -0.8, "near_duplicates": 0.0, "conflicting_texts": 0.0,
           "decided_by_format": None, "decided_by_length": 0.1, "decided_by_both": 0.1}  # fmt: skip
NO_OVERLAP = Overlap(0.0, [])
PAIRING = WHOLE.pairing


def strict(**limits):
    checks = PAIRING.checks.model_copy(update={"on_excess": "strict"} | limits)
    return PAIRING.model_copy(update={"checks": checks})


def test_an_exceeded_limit_is_reported_or_refused(capsys):
    close = Overlap(0.5, [f"d{i}" for i in range(6)])
    found = report_excess({"persodpo": NUMBERS}, close, {"persodpo"}, PAIRING)
    assert found == [
        "The pair set persodpo has a length_d of -0.80, beyond pairing.checks.length_d = 0.5; "
        "set or lower pairing.match_length, or set another scoring.length.",
        "The validation dialogues have a valid_overlap of 0.50, beyond "
        "pairing.checks.valid_overlap = 0; take these dialogues out of one of the two files: "
        "d0, d1, d2, d3, d4, ....",
    ]
    assert capsys.readouterr().err == "".join(f"{sentence}\n" for sentence in found)
    with pytest.raises(UserError, match=r"length_d of -0\.80.*on_excess is strict"):
        report_excess({"persodpo": NUMBERS}, NO_OVERLAP, {"persodpo"}, strict())
    off = strict(length_d=None, valid_overlap=None)
    assert report_excess({"persodpo": NUMBERS}, close, {"persodpo"}, off) == []
    # nothing is trained on it
    assert report_excess({"dpo": NUMBERS}, NO_OVERLAP, {"persodpo"}, strict()) == []


def test_the_baseline_is_decided_by_the_format_and_gets_a_remedy_of_its_own():
    numbers = NUMBERS | {"decided_by_format": 1.0}
    found = report_excess({"dpo": numbers}, NO_OVERLAP, {"dpo"}, PAIRING)
    assert len(found) == 1
    assert "raise generate.max_tokens" in found[0]
    assert len(report_excess({"persodpo": numbers}, NO_OVERLAP, {"persodpo"}, PAIRING)) == 2
    by_validity = PAIRING.model_copy(update={"strategy": "valid_invalid"})
    assert len(report_excess({"persodpo": numbers}, NO_OVERLAP, {"persodpo"}, by_validity)) == 1


def test_a_remedy_is_one_of_the_strategy():
    """Where scores play no part neither the margin nor the scores' weights mend anything."""
    by_validity = PAIRING.model_copy(update={"strategy": "valid_invalid"})
    bad = NUMBERS | {"near_duplicates": 0.9, "conflicting_texts": 0.9}
    for sentence in report_excess({"persodpo": bad}, NO_OVERLAP, {"persodpo"}, by_validity):
        assert "pairing.margin" not in sentence.split("; ")[1]
        assert "scoring" not in sentence


def test_texts_without_words_are_told_apart():
    pairs = np.array([0]), np.array([1])
    assert near_duplicates(["\N{FIRE}", "\N{SNOWMAN}"], *pairs) == 0.0
    assert near_duplicates(["\N{FIRE}", "\N{FIRE} "], *pairs) == 1.0


def test_a_strict_stage_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    pool = ["smollm2_greedy", "golden"]

    def change(params):
        params["pool"] = pool
        params["pairing"]["checks"] |= {"on_excess": "strict", "length_d": None}

    change_params(change)
    for split in ("train", "valid"):
        write_rows(ARTIFACTS / f"prompts/{split}.jsonl", [prompt()])
    for model, parsed in zip(pool, (None, "It is a bridge."), strict=True):
        row = response(parsed, model=model)
        worst = {"coh": 0.0, "c": -1.0, "ue": 0.0, "p": 0.0}
        score = Score(id=row.id, model=model, contract=row.contract, answer=row.answer,
                      values=worst)  # fmt: skip
        write_rows(ARTIFACTS / f"responses/{model}.jsonl", [row])
        write_rows(ARTIFACTS / f"scores/{model}.jsonl", [score])
    with pytest.raises(UserError, match=r"persodpo has a decided_by_format of 1\.00"):
        stages.pair.main()
    assert sorted(path.name for path in ARTIFACTS.iterdir()) == ["prompts", "responses", "scores"]
    change_params(lambda params: params["pairing"]["checks"].update(on_excess="warn"))
    stages.pair.main()
    numbers = read_json(ARTIFACTS / "pairs/metrics.json")
    assert numbers["persodpo"]["checks"]["decided_by_format"] == 1.0
    assert numbers["pool"]["valid_overlap"] == 0.0
    assert "decided_by_format" in numbers["excess"][0]
