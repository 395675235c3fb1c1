"""Whatever can change an answer is in the key, and nothing else."""

import hashlib
import json

import pytest
from conftest import openai_model, transformers_model
from hypothesis import given
from hypothesis import strategies as st

from persodpo.config.generate import GenerateParams
from persodpo.generate.local import TransformersCaller
from persodpo.generate.remote import OpenAICaller
from persodpo.generate.request import Message, Request, unique

BASE = Request(
    provider="openai", base_url="http://a/v1", model="m", revision="r", weights="w", adapter="a",
    dtype="float32", messages=(Message(role="user", content="Hello"),), max_tokens=10,
    temperature=0.5, top_p=0.9, seed=1, sample_index=0, response_format="text", contract_version=1,
)  # fmt: skip
CHANGES = {
    "provider": "transformers",
    "base_url": "http://b/v1",
    "model": "n",
    "revision": "s",
    "weights": "x",
    "adapter": None,
    "dtype": "bfloat16",
    "messages": (Message(role="user", content="Hello."),),
    "rendered": "user: Hello",
    "max_tokens": 11,
    "temperature": 0.6,
    "top_p": None,
    "seed": 2,
    "sample_index": 1,
    "response_format": "json_object",
    "extra_body": {"reasoning_effort": "low"},
    "stops_by": "strict",
    "contract_version": 2,
}


@pytest.fixture
def no_hub(tokenizer, monkeypatch):
    """A Hugging Face id has a tokenizer, which no hub is asked for."""
    monkeypatch.setattr("persodpo.models.chat_template.load_tokenizer", lambda *_: tokenizer)


def test_every_ingredient_is_tested():
    assert CHANGES.keys() == Request.model_fields.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_two_requests_that_differ_in_one_ingredient_have_two_keys(name):
    changed = BASE.model_copy(update={name: CHANGES[name]})
    assert changed.key != BASE.key
    assert BASE.model_copy().key == BASE.key  # equal ones have one
    assert len(unique([BASE, changed, BASE])) == 2


@given(st.text(), st.text(), st.text())
def test_no_text_can_pass_for_another(a, b, c):
    """Moving text from one message to the next is another request."""

    def request(*texts):
        chat = tuple(Message(role="user", content=text) for text in texts)
        return BASE.model_copy(update={"messages": chat})

    assert (request(a + b, c).key == request(a, b + c).key) == (b == "")


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.1}, {"top_p": 0.5}, {"seed": 5}, {"persona": False}, {"model": "other"},
     {"base_url": "http://other/v1"}, {"response_format": "text"},
     {"max_tokens": 13}, {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}],
)  # fmt: skip
def test_settings_of_a_server_that_change_the_request(prompts, generate, change):
    assert not _keys(openai_model(), prompts, generate) & _keys(
        openai_model(**change), prompts, generate
    )


@pytest.mark.parametrize(
    "change",
    [{"concurrency": 3}, {"requests_per_minute": 7}, {"tokens_per_minute": 9}, {"attempts": 2},
     {"max_tokens": 12}, {"served_model": "any"}, {"timeout_seconds": 9.0},
     {"api_key_env": "OTHER"}, {"base_url": "http://localhost:1/v1/"}],
)  # fmt: skip
def test_settings_of_a_server_that_do_not(prompts, generate, change):
    changed = _keys(openai_model(**change), prompts, generate)
    assert _keys(openai_model(), prompts, generate) == changed


def test_answers_that_were_paid_before_a_field_came_keep_their_key(prompts, generate):
    """The key as it was computed when a request had neither rendered, extra_body nor stops_by."""
    (request,) = OpenAICaller("m", openai_model(), generate).requests(prompts[:1], 110)
    fields = request.model_dump(exclude={"rendered", "extra_body", "stops_by"})
    assert fields["contract_version"] == 1
    text = json.dumps(fields, sort_keys=True)
    assert request.key == hashlib.sha256(text.encode()).hexdigest()


DATED = (
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- endif %}Today: {{ date_string }} {{ strftime_now('%-d %B %Y') }}\n"
    "{%- for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
)


def test_a_dated_template_has_the_date_of_the_settings(prompts, generate, tokenizer, no_hub):
    """Whatever day it is; a template without a date doesn't care."""
    model = transformers_model("owner/name", revision="a" * 40)
    later = generate.model_copy(update={"date": "2031-12-07"})
    assert _keys(model, prompts, generate) == _keys(model, prompts, later)
    undated, tokenizer.chat_template = tokenizer.chat_template, DATED
    try:
        keys = _keys(model, prompts, generate)
        assert not keys & _keys(model, prompts, later)
        request = TransformersCaller("m", model, later).requests(prompts[:1], 110)[0]
        assert request.rendered.startswith("Today: 07 Dec 2031 7 December 2031")
        given = model.model_copy(update={"chat_template_kwargs": {"date_string": "Monday"}})
        request = TransformersCaller("m", given, later).requests(prompts[:1], 110)[0]
        assert request.rendered.startswith("Today: Monday ")
    finally:
        tokenizer.chat_template = undated


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"max_tokens": 9}, {"dtype": "bfloat16"}])
def test_shared_settings_of_a_local_model(tiny_model, prompts, generate, change):
    model = transformers_model(tiny_model)
    changed = generate.model_copy(update=change)
    assert not _keys(model, prompts, generate) & _keys(model, prompts, changed)
    slower = generate.model_copy(update={"batch_size": 1, "max_cost_usd": 5.0})
    assert _keys(model, prompts, generate) == _keys(model, prompts, slower)


def test_the_number_of_words_asked_for_is_in_the_key(prompts, generate):
    """Through the prompt's text; without the persona it is rendered anew."""
    caller = OpenAICaller("m", openai_model(persona=False), generate)
    few, many = (caller.requests(prompts[:1], words)[0].key for words in (50, 110))
    assert few != many


@pytest.mark.slow
def test_local_weights_are_identified_by_their_contents(tiny_model, tmp_path, prompts, generate):
    copied, changed = tmp_path / "copied", tmp_path / "changed"
    for folder in (copied, changed):
        folder.mkdir()
        for file in tiny_model.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    template = changed / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    keys = _keys(transformers_model(tiny_model), prompts, generate)
    assert _keys(transformers_model(copied), prompts, generate) == keys
    assert not _keys(transformers_model(changed), prompts, generate) & keys


def test_a_pinned_revision_is_in_the_key(prompts, generate, no_hub):
    """No hub is asked: id and commit say which weights they are."""
    one, two = (
        _keys(transformers_model("owner/name", revision=digit * 40), prompts, generate)
        for digit in "ab"
    )
    assert not one & two


def test_own_random_numbers_depend_on_what_is_sampled_only(prompts, generate, no_hub):
    def seeds(**changes):
        caller = TransformersCaller(
            "m",
            transformers_model("owner/name", revision="a" * 40, temperature=1.0, **changes),
            generate,
        )
        return [request.random_seed for request in caller.requests(prompts, 110)]

    assert len(set(seeds())) == len(prompts)
    assert seeds() == seeds(top_p=0.5)
    assert set(seeds()).isdisjoint(seeds(seed=1))


def _keys(model, prompts, generate: GenerateParams) -> set[str]:
    caller = OpenAICaller if model.backend == "openai" else TransformersCaller
    return {request.key for request in caller("m", model, generate).requests(prompts, 110)}
