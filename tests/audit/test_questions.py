"""The questions that metrics are asked, and what is found about metrics whose sight is known."""

import json
import re
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scored import prompt

from persodpo.audit import audit_flags, audit_metrics, audit_numbers
from persodpo.audit.questions import Opposite, ask, read_opposites
from persodpo.config.audit import AuditParams
from persodpo.errors import UserError
from persodpo.score import Metric, Scorer

# Thirty dialogues; each persona has a word that its answer uses, and one that it doesn't.
PROMPTS = [
    prompt(
        [f"I love {n}0.", f"I own {n}1."],
        [f"What of {n}?"],
        f"You love {n}0, so {n} it is" + " indeed" * (n % 7) + ".",
        id_=f"d{n}",
    ).model_copy(update={"persona_grounding": [True, False]})
    for n in range(100, 130)
]
OPPOSITES = [
    Opposite(dialogue=p.id, persona=p.persona, turns=p.turns, answer=p.golden_answer, sentence=0,
             opposite=f"I hate {p.id[1:]}0.", way="antonym")
    for p in PROMPTS[:20]
]  # fmt: skip


class Known(Scorer):
    """A metric that sees what its `sight` says."""

    kind: Literal["known"] = "known"
    sight: str
    lower_is_better: bool = False

    def metric(self):
        if self.lower_is_better:
            return Metric("Known", low=-1, high=1, worst=1, version=1, needs=("persona",),
                          higher_is_better=False)  # fmt: skip
        needs = ("persona", "last_turn") if self.sight != "turns" else ("last_turn",)
        return Metric("Known", low=-1, high=1, worst=-1, version=1, needs=needs,
                      used_above=0.5, contradicted_below=0)  # fmt: skip

    def values(self, key, prompts, responses, batch_tokens):
        rng = np.random.default_rng(0)
        return [
            self.value(p.persona, p.turns, r.answer, rng)
            for p, r in zip(prompts, responses, strict=True)
        ]

    def value(self, persona, turns, answer, rng):
        numbers = set(re.findall(r"\d+", answer))
        used = any(numbers & set(re.findall(r"\d+", one)) for one in persona)
        against = any("hate" in one and re.findall(r"\d+", one)[0] in numbers for one in persona)
        return {
            "all": -0.5 if against else float(used),
            "shuffled": rng.random(),
            "constant": 0.3,
            "length": len(answer.split()) / 100,
            "backwards": -0.5 if against else float(not used),
            "turns": float(bool(turns and numbers & set(re.findall(r"\d+", turns[-1])))),
        }[self.sight]


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    file = tmp_path_factory.mktemp("audit") / "opposites.jsonl"
    file.write_text("".join(row.model_dump_json() + "\n" for row in OPPOSITES))
    scorers = {
        name: Known(sight=name)
        for name in ("all", "shuffled", "constant", "length", "backwards", "turns")
    }
    scorers["lower"] = Known(sight="backwards", lower_is_better=True)
    params = AuditParams(others=3, opposites=str(file), seed=0)
    return audit_metrics(PROMPTS, scorers, params, 2048)


def one(findings, metric, question, measure="auc"):
    rows = findings.query("metric == @metric and question == @question and measure == @measure")
    (row,) = rows.to_dict("records")
    return row


def test_a_metric_that_sees_passes_and_others_are_flagged(findings):
    flags = audit_flags(findings)
    # as a coherence metric it doesn't see the turns
    assert [reason[:28] for reason in flags["all"]] == ["can't tell the golden answer"]
    assert "turns" not in flags
    assert any("AUC" in reason and ".5 is chance" in reason for reason in flags["shuffled"])
    assert any("same value for every answer" in reason for reason in flags["constant"])
    assert any("follows the answer's length" in reason for reason in flags["length"])
    assert any("wrong way round" in reason for reason in flags["backwards"])
    # the same values of a metric whose lower ones are the better ones
    assert "lower" not in flags
    assert one(findings, "lower", "persona")["value"] == 1


def test_a_metric_that_looks_at_persona_and_turns_is_asked_about_opposites():
    """The opposites bring their turns along."""
    questions = ask(PROMPTS, OPPOSITES, 3, 0)
    for side in (questions["opposites"].higher, questions["opposites"].lower):
        assert [case.prompt.turns for case in side] == [p.turns for p in PROMPTS[:20]]


def test_what_is_counted(findings):
    assert one(findings, "all", "persona")["value"] == 1
    assert one(findings, "all", "persona")["n"] == 30 * 4
    assert one(findings, "all", "persona")["clusters"] == 30
    assert one(findings, "all", "sentences")["value"] == 1
    assert one(findings, "all", "sentences", "f1")["value"] == 1
    assert one(findings, "constant", "sentences", "f1")["value"] == 0
    assert one(findings, "all", "opposites", "called")["value"] == 1
    assert one(findings, "all", "opposites", "called falsely")["value"] == 0
    assert one(findings, "all", "opposites", "called falsely")["n"] == 20
    assert one(findings, "turns", "turns")["value"] == 1
    assert one(findings, "all", "echo")["value"] == 0.5
    assert audit_numbers(findings)["all"]["called_falsely"] == 0


@given(st.integers(2, 12), st.integers(1, 20), st.integers(0, 99))
def test_other_dialogues_are_others_and_each_as_often(n, others, seed):
    questions = ask(PROMPTS[:n], [], others, seed)
    per_answer = min(others, n - 1)
    lower = questions["persona"].lower
    assert len(lower) == n * per_answer
    owners = [case.prompt.persona[0] for case in lower]
    assert all(case.prompt.golden_answer == case.answer for case in lower)
    assert not any(case.prompt.persona == PROMPTS[int(case.cluster[1:]) - 100].persona
                   for case in lower)  # fmt: skip
    assert {owners.count(owner) for owner in owners} == {per_answer}
    assert "opposites" not in questions


def test_one_prompt_or_no_marks_leave_questions_out():
    alone = ask(PROMPTS[:1], [], 3, 0)
    assert set(alone) == {"sentences", "echo"}
    unmarked = [p.model_copy(update={"persona_grounding": None}) for p in PROMPTS]
    assert "sentences" not in ask(unmarked, [], 3, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"o\.jsonl: there is no such file; data/README\.md says .*; null leaves that"),
        ("", r"it has no rows; data/README\.md says what audit\.opposites holds; null leaves"),
        ("{}", r"line 1: not a row of type Opposite \(dialogue: field required\); data/README"),
        ('\n{"x": ', "line 2: not a row of type Opposite"),
        (json.dumps(OPPOSITES[0].model_dump() | {"sentence": 2}),
         "sentence is 2, and the persona has 2 sentences, counted from 0"),
        (json.dumps(OPPOSITES[0].model_dump() | {"turns": []}), "not a row of type Opposite"),
        (json.dumps(OPPOSITES[0].model_dump() | {"opposite": ""}), "not a row of type Opposite"),
    ],
)  # fmt: skip
def test_bad_files_of_opposites_are_reported(tmp_path, text, message):
    if text is not None:
        (tmp_path / "o.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        read_opposites(tmp_path / "o.jsonl")


def test_an_edited_file_of_opposites_is_read(tmp_path):
    """As an editor leaves it: with a byte order mark, Windows' line ends, and a line of blanks."""
    row = json.dumps(OPPOSITES[0].model_dump())
    (tmp_path / "o.jsonl").write_bytes(f"\ufeff{row}\r\n  \r\n".encode())
    assert read_opposites(tmp_path / "o.jsonl") == [OPPOSITES[0]]


def test_another_prompt_is_one_of_another_dialogue():
    """Two rounds of a dialogue share its persona, and are one cluster."""
    rounds = [p.model_copy(update={"dialogue": f"d{n // 3}"}) for n, p in enumerate(PROMPTS)]
    by_answer = {p.golden_answer: p.dialogue for p in rounds}
    by_persona = {tuple(p.persona): p.dialogue for p in rounds}
    question = ask(rounds, [], 4, 0)["persona"]
    assert len(question.lower) == 4 * len(rounds)
    assert {case.cluster for case in question.higher} == {f"d{n}" for n in range(10)}
    for case in question.lower:
        assert case.cluster == by_answer[case.answer] != by_persona[tuple(case.prompt.persona)]
