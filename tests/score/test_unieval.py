"""Coh-UniEval against its formula, on a tiny random T5 (the real one is 3 GB)."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import corpus, make_t5
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from persodpo.errors import UserError
from persodpo.score.judges.unieval import UniEvalJudge, fit, question


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t5")
    make_t5(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def items(n):
    rng = random.Random(0)
    words = [word for text in corpus() for word in text.split()]

    def text():
        return " ".join(rng.choices(words, k=rng.randint(1, 25)))

    return [(text(), *(text() for _ in range(rng.randint(1, 6)))) for _ in range(n)]


def judged(folder, inputs, batch_tokens=300):
    judge = UniEvalJudge(str(folder), None, batch_tokens, "scorers.coh.model")
    return {texts: value[0] for batch in judge(inputs) for texts, value in batch}


@pytest.mark.slow
def test_it_is_the_formula(folder):
    """As UniEval's code computes it, transcribed one input at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    inputs = items(30)
    ours = judged(folder, inputs)
    for response, *turns in inputs:
        history = "\n".join(turns) + "\n\n"
        source = (
            "question: Is this a coherent response given the dialogue history? </s> response: "
            + response + " </s> dialogue history: " + history
        )  # fmt: skip
        with torch.no_grad():
            p = model(
                **tokenizer(source, return_tensors="pt"), decoder_input_ids=torch.tensor([[0]])
            ).logits[0, 0].softmax(-1)  # fmt: skip
        yes, no = p[tokenizer("Yes").input_ids[0]], p[tokenizer("No").input_ids[0]]
        assert ours[(response, *turns)] == pytest.approx(float(yes / (yes + no)), abs=1e-5)
    assert max(ours.values()) - min(ours.values()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [1, 500, 10_000])
def test_order_and_batches_do_not_matter(folder, batch_tokens):
    inputs = items(20)
    ours, others = judged(folder, inputs), judged(folder, inputs[::-1], batch_tokens)
    assert ours == pytest.approx(others, abs=1e-5)


texts = st.text(alphabet="ab c.é🌊\n", max_size=300)


@given(turns=st.lists(texts, min_size=1, max_size=6), response=texts, limit=st.integers(200, 400))
@settings(max_examples=60)
def test_the_newest_that_has_room_is_kept(turns, response, limit, tokenizer):
    text = fit(turns, response, tokenizer, limit)
    whole = question(turns, response)
    assert len(tokenizer(text)["input_ids"]) <= limit
    if len(tokenizer(whole)["input_ids"]) <= limit:
        assert text == whole
        return
    # what is left of the dialogue is its end
    history = text.split(" </s> dialogue history: ")[1].removesuffix("\n\n")
    assert "\n".join(turns).endswith(history)
    # and the longest one: no turn more, and no letter more of the newest, has room
    shorter = text.split("response: ", 1)[1].split(" </s> dialogue history: ")[0]
    for oldest in range(1, len(turns)):
        if "\n".join(turns[oldest:]) == history:
            longer = question(turns[oldest - 1 :], shorter)
            break
    else:
        longer = question([turns[-1][len(turns[-1]) - len(history) - 1 :]], shorter)
    assert len(history) == len(turns[-1]) == 0 or len(tokenizer(longer)["input_ids"]) > limit


def test_whole_turns_go_first_then_the_beginning_of_the_newest(tokenizer):
    turns = ["first " * 20, "second " * 20, "third turn"]
    limit = len(tokenizer(question(turns[1:], "yes"))["input_ids"])
    assert fit(turns, "yes", tokenizer, limit) == question(turns[1:], "yes")
    assert fit(turns, "yes", tokenizer, limit - 1) == question(turns[2:], "yes")
    cut = fit(["old " * 9, "begin " * 200 + "the end"], "yes", tokenizer, 100)
    assert cut.endswith("the end\n\n")
    assert "old" not in cut


def test_a_response_that_leaves_no_room_loses_its_end(tokenizer):
    text = fit(["What is it?"], "start " + "word " * 10_000, tokenizer, 120)
    assert len(tokenizer(text)["input_ids"]) <= 120
    assert "response: start word" in text
    assert text.endswith("What is it?\n\n")


def test_what_is_no_encoder_decoder_is_reported(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"scorers\.coh\.model is .* can't be loaded as an encoder"):
        UniEvalJudge(str(tmp_path), None, 1, "scorers.coh.model")
