"""Chats as models read them: dates, special tokens in texts, answers behind prompts, ends."""

import pytest
from conftest import DATE, chat_template
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import CHATML, corpus
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AddedToken, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from persodpo.errors import UserError
from persodpo.models.chat_template import ChatTemplate

USER = [{"role": "user", "content": "Where is it?"}]


@pytest.fixture(scope="module")
def merging(chat_model):
    """A template whose tokenizer makes one token of two line feeds."""
    template = chat_template(AutoTokenizer.from_pretrained(chat_model))
    assert len(template.tokenizer("\n\n")["input_ids"]) == 1
    return template


def answer_text(template, answer, is_cut=False):
    ids = template.encode_answer(USER, answer, is_cut)
    return None if ids is None else template.tokenizer.decode(ids)


@pytest.mark.parametrize(
    "answer",
    ['{"response": "In Rome."}', '\n{"response": "In Rome."}', "\n\nIn Rome.", "  In Rome.",
     " \n\n In Rome.\n\n", "", "\n", "\n\n", "   ", "In <|im_end|> Rome.<|im_start|>user"],
)  # fmt: skip
def test_an_answer_behind_its_prompt(merging, template, answer):
    """Also one that begins with what the tokenizer would merge with the end of the prompt."""
    for each in (merging, template):
        assert answer_text(each, answer) == f"{answer}<|im_end|>\n"
        cut = answer if answer.strip() else f"{answer}<|im_end|>\n"
        assert answer_text(each, answer, is_cut=True) == cut


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_any_answer_is_laid_out_as_the_model_would_write_it(chat_model, answer):
    template = chat_template(AutoTokenizer.from_pretrained(chat_model))
    assert answer_text(template, answer) == f"{answer}<|im_end|>\n"


@given(st.lists(st.sampled_from(["<|im_end|>", "<|im_start|>", "<|endoftext|>", "a", "\n", " "])))
def test_no_text_becomes_a_special_token(chat_model, parts):
    template = chat_template(AutoTokenizer.from_pretrained(chat_model))
    text = "".join(parts)
    ids = template.encode([{"role": "user", "content": text}], to_answer=True)
    special = [number for number in ids if number in template.special_ids]
    plain = template.encode([{"role": "user", "content": "x"}], to_answer=True)
    assert special == [number for number in plain if number in template.special_ids]
    assert template.tokenizer.decode(ids) == template.render(
        [{"role": "user", "content": text}], to_answer=True
    )


def test_a_template_that_writes_the_prompt_otherwise_behind_an_answer(chat_model):
    """As one does that opens the thoughts in the prompt, and forgets them later."""
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = CHATML.replace("assistant\n'", "assistant\n<think>\n'")
    template = chat_template(tokenizer)
    assert template.encode_answer(USER, "In Rome.", is_cut=False) is None
    assert template.opens_thoughts(USER)


def test_a_dated_template_without_a_date_of_its_own(chat_model):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = "{{ strftime_now('%A, %d %B %Y, %j %y %-m %H:%M') }}" + CHATML
    text = ChatTemplate(tokenizer, "2024-02-29", None, "key").render(USER, to_answer=True)
    assert text.startswith("Thursday, 29 February 2024, 060 24 2 00:00<|im_start|>user")
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }}" + CHATML
    assert ChatTemplate(tokenizer, DATE, None, "key").render(USER, False).startswith(DATE)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["first", "always"])
@pytest.mark.parametrize("generation", ["assistant:", "assistant: ", "assistant:\n"])
def test_a_tokenizer_that_puts_a_blank_before_a_text(scheme, generation):
    """As Llama 2's and Mistral's do; a turn ends with </s> or a line feed."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    tokenizer.train_from_iterator(
        [*corpus(), "user: assistant: \n"] * 2,
        trainers.UnigramTrainer(vocab_size=500, special_tokens=["<s>", "</s>", "<unk>"],
                                unk_token="<unk>", show_progress=False),
    )  # fmt: skip
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    for end in ("</s>", "\n"):
        fast.chat_template = (
            (
                "<s>{% for m in messages %}{{ m.role + ': ' + m.content + END }}{% endfor %}"
                "{% if add_generation_prompt %}{{ GENERATION }}{% endif %}"
            )
            .replace("END", repr(end))
            .replace("GENERATION", repr(generation))
        )
        template = chat_template(fast)
        for answer in ("In Rome it is.", "The old town"):
            whole = template.encode_answer(USER, answer, is_cut=False)
            if whole is None:  # left out and counted, as where the prompt ends otherwise
                assert generation != "assistant:"
                continue
            cut = template.encode_answer(USER, answer, is_cut=True)
            assert cut is not None
            assert cut == whole[: len(cut)]
            assert fast.decode(cut).strip() == answer


def test_several_templates_without_a_default(chat_model):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = {"tool_use": CHATML}
    with pytest.raises(UserError, match="several chat templates and none called default"):
        chat_template(tokenizer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ 1 // 0 }}", "its chat template can't write a chat"),
        ("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}",
         "leaves the user's message out"),
    ],
)  # fmt: skip
def test_templates_that_are_wrong(chat_model, text, message):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = text
    with pytest.raises(UserError, match=message):
        chat_template(tokenizer).render(USER, to_answer=True)


def test_an_answer_that_the_templates_own_words_contain(chat_model):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = CHATML.replace(
        "m.role + '\n' + m.content", "m.role + '\nAnswer: ' + m.content"
    )
    template = chat_template(tokenizer)
    assert tokenizer.decode(template.encode_answer(USER, "A", is_cut=True)) == "Answer: A"


def test_a_template_that_refuses_the_chat(chat_model):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.chat_template = "{{ raise_exception('Only one user, please') }}"
    with pytest.raises(UserError, match=r"params: its chat template .* \(Only one user, please\)"):
        ChatTemplate(tokenizer, DATE, None, "params").encode(USER, to_answer=True)


@pytest.mark.parametrize(
    ("config", "eos", "template", "expected"),
    [
        (None, "<|endoftext|>", CHATML, [0, 2]),
        (0, "<|endoftext|>", CHATML, [0, 2]),
        ([1, 0], None, CHATML, [0, 1, 2]),
        (None, None, CHATML, [2]),
        (0, None, CHATML.replace("im_end", "plain_end"), [0, 700]),
        (None, "<|endoftext|>", "{% for m in messages %}{{ m.content }}\n{% endfor %}", [0]),
    ],
)
def test_the_ends_of_an_answer_are_those_of_all_that_name_one(
    chat_model, config, eos, template, expected
):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.eos_token, tokenizer.chat_template = eos, template
    # not every tokenizer has the end of a turn among its special tokens
    tokenizer.add_tokens([AddedToken("<|plain_end|>", special=False)])
    assert tokenizer.convert_tokens_to_ids("<|plain_end|>") == 700
    assert chat_template(tokenizer).end_ids(GenerationConfig(eos_token_id=config)) == expected


def test_no_end_at_all_is_a_sentence(chat_model):
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    tokenizer.eos_token = None
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with pytest.raises(UserError, match="names a model without a token that ends its answers"):
        chat_template(tokenizer).end_ids(GenerationConfig())
