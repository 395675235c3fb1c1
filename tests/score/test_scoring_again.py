"""Scoring again: what is known isn't judged again, and neither order nor batches matter."""

import functools
import json

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scored import SCORERS, changed, prompt, response, score
from tiny_models import make_bert

from persodpo.errors import UserError
from persodpo.score import declared_metrics
from persodpo.score.judges import embeddings, nli, word_vectors
from persodpo.score.judges.nli import LABELS


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


@pytest.mark.slow
def test_no_model_is_loaded_for_what_is_known(prompts, monkeypatch):
    rows = [response(p.golden_answer, p.id) for p in prompts[:2]] + [response(None, prompts[2].id)]
    first = score(prompts, rows)
    for module in (nli.NliJudge, embeddings.EmbeddingJudge, word_vectors.WordVectorJudge):
        monkeypatch.setattr(module, "__init__", lambda *_: pytest.fail("it was loaded"))
    assert score(prompts, rows[::-1])[::-1] == first
    # joint C asks what C of each sentence didn't
    with pytest.raises(pytest.fail.Exception):
        score(prompts, rows, changed("c", aggregate="joint"))


@pytest.mark.slow
def test_another_model_is_asked_again(prompts, tmp_path, monkeypatch):
    """One cache, and scorers that differ in weights, labels or vectors."""
    for seed in (0, 1):
        make_bert(tmp_path / f"bert{seed}", ["entailment", "neutral", "contradiction"], seed)
    vectors = tmp_path / "vectors.txt"
    loaded = []
    for judge in (nli.NliJudge, embeddings.EmbeddingJudge, word_vectors.WordVectorJudge):

        def load(self, *args, original=judge.__init__, name=judge.__name__):
            loaded.append(name)
            original(self, *args)

        monkeypatch.setattr(judge, "__init__", load)
    rows = [response(p.golden_answer, p.id) for p in prompts]
    # of Coh; of C; of UE and the use of the persona, with two models; of P; of the likeness
    every = ["EmbeddingJudge", "NliJudge", "NliJudge", "EmbeddingJudge", "WordVectorJudge",
             "EmbeddingJudge"]  # fmt: skip
    for seed, labels, number, expected in [
        (0, None, 1, every),
        (0, None, 1, []),
        (1, None, 1, ["NliJudge"]),
        (1, list(LABELS), 1, ["NliJudge"]),
        (1, list(LABELS[::-1]), 1, ["NliJudge"]),
        (1, list(LABELS[::-1]), 2, ["WordVectorJudge"]),
        (0, None, 1, []),
    ]:
        vectors.write_text(f"tower {number} 3\ncastle 2 1\n")
        model = {"model": str(tmp_path / f"bert{seed}"), "labels": labels}
        scorers = changed("c", **model) | {"p": changed("p", vectors=str(vectors))["p"]}
        loaded.clear()
        score(prompts, rows, scorers)
        assert loaded == expected


def test_a_changed_encoder_of_a_judge_of_personas_is_another_judge(tmp_path):
    encoder, judge = tmp_path / "encoder", tmp_path / "judge"
    for folder in (encoder, judge):
        make_bert(folder, LABELS)
    config = json.loads((judge / "config.json").read_text())
    scorer = changed("c", model=str(judge))["c"]
    assert scorer.paths() == [str(judge)]
    config["persona_judge"] = {"encoder": str(encoder), "revision": None, "slope": 20.0,
                               "midpoint": 0.4, "nearest": 0.2, "threshold": 0.5}  # fmt: skip
    (judge / "config.json").write_text(json.dumps(config))
    assert scorer.paths() == [str(judge), str(encoder)]
    asked, rows = [prompt()], [response("A man plays.")]
    first = score(asked, rows, {"c": scorer})[0].values["c"]
    make_bert(encoder, LABELS, seed=1)
    assert score(asked, rows, {"c": scorer})[0].values["c"] != first


ANSWERS = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.text(alphabet="the sea is a boat 🌊\u200b\x00\n", max_size=40),
        st.sampled_from(["", " ", "I love the sea.", "word " * 10_000, "A man plays music."]),
    ),
    min_size=1,
    max_size=6,
)


@pytest.fixture(scope="module")
def small_scorers(tmp_path_factory):
    """Every kind of judge, small or loaded once: their weights don't matter here."""
    folder = tmp_path_factory.mktemp("judges")
    make_bert(folder / "bert", LABELS)
    (folder / "vectors.txt").write_text("sea 1 3\nboat 2 1\nlove -1 1\n")
    classifier = {"model": str(folder / "bert")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "load_encoder", functools.cache(embeddings.load_encoder))
        yield (
            changed("c", **classifier)
            | {"ue": SCORERS["ue"].model_copy(update=classifier)}
            | {"p": SCORERS["p"].model_copy(update={"vectors": str(folder / "vectors.txt")})}
        )


@pytest.mark.slow
@given(answers=ANSWERS, seed=st.integers(0, 999), batch_tokens=st.sampled_from([1, 40, 500]))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_neither_order_nor_repetition_nor_batches_matter(
    answers, seed, batch_tokens, small_scorers, tmp_path_factory, monkeypatch
):
    asked = [prompt(["I love the sea.", "I own a boat."], [f"What is {i}?"], "The sea.", str(i))
             for i in range(len(answers))]  # fmt: skip
    rows = [response(answer, str(i)) for i, answer in enumerate(answers)]
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("one")))
    ours = score(asked, rows, small_scorers)
    order = list(np.random.default_rng(seed).permutation(len(rows))) * 2
    monkeypatch.setenv("DVC_ROOT", str(tmp_path_factory.mktemp("two")))
    others = score(asked[::-1], [rows[i] for i in order], small_scorers, batch_tokens)
    for i, other in zip(order, others, strict=True):
        for key, metric in declared_metrics(small_scorers).items():
            value, again = ours[i].values[key], other.values[key]
            if value is None:
                assert again is None
            else:
                assert again == pytest.approx(value, abs=1e-5)
                assert metric.low <= value <= metric.high


def test_responses_of_another_sample_are_refused():
    with pytest.raises(UserError, match=r"of other prompts than the sample \(such as 'gone'\)"):
        score([prompt()], [response("An answer.", id_="gone")])
