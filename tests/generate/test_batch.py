"""A batch on this machine: what prompts share is read once, and what has ended leaves it."""

import pytest
import torch
from conftest import chat_template, transformers_model
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from persodpo.generate import batch
from persodpo.generate.batch import PendingPrompt, answer_batch, decoding_settings
from persodpo.generate.local import TransformersCaller
from persodpo.generate.prefill import read_prompts


@pytest.fixture
def weights(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


@pytest.fixture(scope="module")
def tiny_weights(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def tokens_read(weights, call):
    """The shapes of what goes through a model during a call, and what the call returns."""
    shapes = []
    hook = weights.register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    try:
        return shapes, call()
    finally:
        hook.remove()


# few different tokens, so that prompts often begin alike, are equal, or go on where another ends
PROMPTS = st.lists(st.lists(st.integers(5, 6), min_size=2, max_size=7), min_size=2, max_size=5)


@pytest.mark.slow
@given(PROMPTS)
def test_reading_prompts_one_by_one_gives_the_keys_of_a_padded_batch(tiny_weights, token_ids):
    longest = max(map(len, token_ids))
    padding = [longest - len(ids) for ids in token_ids]
    with torch.inference_mode():
        shapes, read = tokens_read(tiny_weights, lambda: read_prompts(tiny_weights, token_ids, 3))
        ids = torch.tensor([[0] * n + ids for n, ids in zip(padding, token_ids, strict=True)])
        mask = torch.tensor([[0] * n + [1] * (longest - n) for n in padding])
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        expected = tiny_weights(input_ids=ids, attention_mask=mask, position_ids=positions,
                                use_cache=True).past_key_values  # fmt: skip
    # as many tokens as a tree of the prompts has branches
    beginnings = {tuple(ids[:n]) for ids in token_ids for n in range(1, len(ids))}
    assert sum(length for _, length in shapes) == len(beginnings)
    assert read.get_seq_length() == longest - 1
    for ours, theirs in zip(read.layers, expected.layers, strict=True):
        for i, n in enumerate(padding):
            for name in ("keys", "values"):
                a, b = (getattr(layer, name)[i, :, n : longest - 1] for layer in (ours, theirs))
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("static", [True, False])
def test_an_answer_that_has_ended_leaves_the_batch(
    weights, tokenizer, prompts, generate, temperature, static, monkeypatch
):
    monkeypatch.setattr(batch, "TOKENS_AT_ONCE", 2)
    if not static:  # as a model that generate() gives a cache of its own kind
        monkeypatch.setattr(type(weights), "_can_compile_fullgraph", False)
    # every tenth token ends an answer, so that they end at different lengths
    weights.generation_config.eos_token_id = list(range(3, len(tokenizer), 10))
    template = chat_template(tokenizer)
    weights.generation_config = decoding_settings(weights, template, generate.max_tokens)
    model = transformers_model("unused", temperature=temperature)
    requests = TransformersCaller("m", model, generate)
    monkeypatch.setattr("persodpo.generate.local.weights_hash", lambda *_: "hash")
    requests.template = template
    pending = [
        PendingPrompt(template.encode(request.chat(), to_answer=True), request)
        for request in requests.requests(prompts, 110)
    ]
    shapes, together = tokens_read(weights, lambda: answer_batch(weights, template, pending))
    alone = [answer_batch(weights, template, [each])[0] for each in pending]
    assert [a.raw for a in together] == [a.raw for a in alone]
    assert [a.finish_reason for a in together] == [a.finish_reason for a in alone]
    lengths = [a.completion_tokens for a in together]
    assert len(set(lengths)) > 1
    assert {"stop", "length"} >= {a.finish_reason for a in together}
    # an answer that ended in one pair of tokens isn't computed in the next
    rows = [n for n, length in shapes if length == 1]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[-1]
