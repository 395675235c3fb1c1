"""Checks of the pairs, and pairs that are matched in length."""

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scored import prompt

from persodpo.errors import UserError
from persodpo.pair.checks import check_numbers, length_d, report_excess, valid_overlap
from persodpo.pair.pairing import form_pair_sets, matched_in_length
from persodpo.workflow.params import load_params

WHOLE = load_params(ROOT / "params.yaml")
SCORING = WHOLE.scoring.model_copy(update={"w1": 0.3, "w2": 0.2})
CHECKS = WHOLE.pairing.checks


def table(*rows):
    """Responses: prompt, answer, words, S_metric, s_length, s_format."""
    frame = pd.DataFrame(
        rows, columns=["id", "answer", "words", "s_metric", "s_length", "s_format"]
    )
    frame["raw"] = frame["answer"]
    frame["s_total"] = frame["s_metric"] + 0.3 * frame["s_length"] + 0.2 * frame["s_format"]
    return frame


def pairs(*places):
    frame = pd.DataFrame(places, columns=["chosen", "rejected"])
    return frame.assign(margin=1.0)


def test_a_worked_example():
    rows = table(
        ("p", "You love castles and towers.", 10, 0.9, 0.0, 1.0),
        ("p", "You LOVE castles, and towers!", 20, 0.9, 0.0, 0.0),  # nearly the first one
        ("p", "It is a bridge over the river.", 30, 0.5, 1.0, 1.0),
        ("q", "No.", 40, 0.5, 0.0, 1.0),
    )
    found = check_numbers(pairs((0, 1), (2, 1), (0, 2)), rows, SCORING)
    assert found["length_d"] == pytest.approx(
        (np.mean([10, 30, 10]) - np.mean([20, 20, 30]))
        / ((np.var([10, 30, 10], ddof=1) + np.var([20, 20, 30], ddof=1)) / 2) ** 0.5
    )
    assert found["near_duplicates"] == pytest.approx(1 / 3)
    # without the format the first pair is even (.9 and .9) and the second one turns (.8 and .9);
    # without the length the second one turns (.7 and .9)
    assert found["decided_by_format"] == pytest.approx(2 / 3)
    assert found["decided_by_length"] == pytest.approx(1 / 3)
    assert found["decided_by_both"] == pytest.approx(2 / 3)
    assert found["both_sides"] == 1.0
    assert set(check_numbers(pairs(), rows, SCORING).values()) == {None}


def test_d_where_there_is_none():
    assert length_d(np.array([1.0]), np.array([2.0])) is None
    assert length_d(np.array([2.0, 2.0]), np.array([2.0, 2.0])) is None


def test_validation_dialogues_in_the_training_data():
    text = "The old harbour was built by monks in the twelfth century and burnt down twice."
    train = [prompt(turns=["Hello there.", "Hi.", "When?"], golden_answer=text)]
    same = prompt(turns=["How old is it?"], golden_answer=text.upper())
    other = prompt(turns=["Hello there."], golden_answer="Nobody knows, the papers were all lost "
                   "when the town hall burnt.")  # fmt: skip
    greeting = prompt(turns=["Hello there."], golden_answer="Hi.")
    assert valid_overlap(train, [same, other, other, other]) == 0.25
    assert valid_overlap(train, [greeting]) == 0.0


NUMBERS = {"length_d": -0.8, "near_duplicates": 0.0, "decided_by_format": None,
           "decided_by_length": 0.1, "decided_by_both": 0.1, "both_sides": 1.0}  # fmt: skip


def test_an_exceeded_limit_is_said_or_refused(capsys):
    found = report_excess({"persodpo": NUMBERS}, 0.5, {"persodpo"}, CHECKS)
    assert found == [
        "The pair set persodpo has a length_d of -0.80, beyond pairing.checks.length_d = 0.5; "
        "set pairing.match_length, or another scoring.length.",
        "The validation dialogues have a valid_overlap of 0.50, beyond "
        "pairing.checks.valid_overlap = 0; take these dialogues out of one of the two files.",
    ]
    assert capsys.readouterr().err == "".join(f"{sentence}\n" for sentence in found)
    strict = CHECKS.model_copy(update={"on_excess": "strict"})
    with pytest.raises(UserError, match=r"length_d of -0\.80.*on_excess is strict"):
        report_excess({"persodpo": NUMBERS}, 0.0, {"persodpo"}, strict)
    off = strict.model_copy(update={"length_d": None})
    assert report_excess({"persodpo": NUMBERS}, 0.0, {"persodpo"}, off) == []
    assert (
        report_excess({"dpo": NUMBERS}, 0.0, {"persodpo"}, strict) == []
    )  # nothing is trained on it


margins = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 60), st.integers(0, 60)), min_size=8, max_size=60
)


def formed(rows):
    """Pairs of margins in eighths, with the words of both sides."""
    frame = pd.DataFrame(
        {
            "chosen": range(0, 2 * len(rows), 2),
            "rejected": range(1, 2 * len(rows), 2),
            "margin": [margin / 8 for margin, _, _ in rows],
        }
    )
    return frame, np.array([words for _, *both in rows for words in both], dtype=float)


def d_of(frame, words, stays):
    return length_d(words[frame["chosen"][stays]], words[frame["rejected"][stays]])


@given(margins, st.sampled_from([0.1, 0.3, 0.6]))
@settings(deadline=None)
def test_pairs_are_matched_in_length(rows, bound):
    frame, words = formed(rows)
    before = d_of(frame, words, np.ones(len(rows), dtype=bool))
    try:
        stays = matched_in_length(frame, words, bound)
    except UserError:
        assume(False)
    if before is None or abs(before) <= bound:
        assert stays.all()
        return
    assert abs(d_of(frame, words, stays)) <= bound + 1e-9
    differences = words[frame["chosen"]] - words[frame["rejected"]]
    left_out = ~stays
    # only pairs that pull to the longer side, of the smallest margins, and as few as do
    assert (np.sign(differences[left_out]) == np.sign(before)).all()
    alike = np.sign(differences) == np.sign(before)
    if (stays & alike).any():
        assert frame["margin"][left_out].max() <= frame["margin"][stays & alike].min()
    order = np.flatnonzero(left_out)[
        np.argsort(frame["margin"][left_out].to_numpy(), kind="stable")
    ]
    fewer = stays.copy()
    fewer[order[-1]] = True
    ties = (frame["margin"][left_out] == frame["margin"][order[-1]]).sum() > 1
    assert ties or abs(d_of(frame, words, fewer) or 9) > bound - 1e-9


def test_a_bound_that_no_choice_keeps_is_refused():
    frame, words = formed([(1, 50, 10), (2, 51, 10)])
    with pytest.raises(UserError, match=r"match_length is 0\.01, .* \(d of all is [\d.]+\); raise"):
        matched_in_length(frame, words, 0.01)


def test_only_the_set_persodpo_is_matched():
    rng = np.random.default_rng(0)
    n = 80
    rows = pd.DataFrame({"id": [f"p{i // 4}" for i in range(n)], "sample": 0})
    rows["model"] = [f"m{i % 4}" for i in range(n)]
    rows["valid"] = rng.random(n) < 0.6
    rows["words"] = rng.integers(10, 90, n)
    rows["answer"] = rows["raw"] = [f"answer {i}" for i in range(n)]
    rows["s_total"] = rng.random(n) - rows["words"] / 200
    params = WHOLE.pairing.model_copy(update={"margin": 0.1})
    matched = params.model_copy(update={"match_length": 0.2})
    before, after = (form_pair_sets(rows, each, {"persodpo"}) for each in (params, matched))
    assert before["dpo"].equals(after["dpo"])
    words = rows["words"].to_numpy(dtype=float)
    sides = [words[after["persodpo"][side]] for side in ("chosen", "rejected")]
    assert abs(length_d(*sides)) <= 0.2
    assert 0 < len(after["persodpo"]) < len(before["persodpo"])
    shuffled = rows.sample(frac=1, random_state=1).reset_index(drop=True)
    again = form_pair_sets(shuffled, matched, {"persodpo"})["persodpo"]
    texts = [
        set(zip(frame["raw"][each["chosen"]], frame["raw"][each["rejected"]], strict=True))
        for frame, each in ((rows, after["persodpo"]), (shuffled, again))
    ]
    assert texts[0] == texts[1]
