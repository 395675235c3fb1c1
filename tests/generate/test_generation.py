"""Models on this machine: order, decoding, sampling, early stop, memory, cache."""

import pytest
import torch
from conftest import ROOT, chat_template, transformers_model
from peft import LoraConfig, get_peft_model
from tiny_models import CHATML
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM, set_seed

from persodpo.config.models import GoldenModel
from persodpo.errors import UserError
from persodpo.generate import local
from persodpo.generate.local import TransformersCaller, answer_requests
from persodpo.generate.prefill import read_prompts
from persodpo.generate.run import generate_responses
from persodpo.models.loading import load_causal_lm
from persodpo.prompts import parse_response
from persodpo.records import Prompt
from persodpo.workflow.params import load_params


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))


def answer(weights, tokenizer, model, prompts, params):
    """Answers of loaded weights, without the cache."""
    requests = TransformersCaller("m", model, params).requests(prompts, 110)
    found = {}
    answer_requests(weights, chat_template(tokenizer), requests, params.batch_size,
                    lambda request, answer: found.update({request.key: answer}))  # fmt: skip
    return [found[request.key] for request in requests]


def raws(answers):
    return [answer.raw for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_its_batch(
    tiny_model, tokenizer, prompts, generate, temperature
):
    weights = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = transformers_model(tiny_model, temperature=temperature, top_p=0.95)
    one, four, all_ = (
        raws(
            answer(
                weights, tokenizer, model, prompts, generate.model_copy(update={"batch_size": n})
            )
        )
        for n in (1, 4, 16)
    )
    assert one == four == all_
    backwards = answer(weights, tokenizer, model, prompts[::-1], generate)
    assert raws(backwards)[::-1] == one
    assert len(set(one)) > 1


@pytest.mark.slow
def test_one_response_per_prompt_in_order(tiny_model, prompts, generate):
    responses = generate_responses(
        "m", transformers_model(tiny_model), prompts, generate, 110
    ).responses
    assert [r.id for r in responses] == [p.id for p in prompts]
    for response in responses:
        assert response.model == "m"
        assert 0 < response.completion_tokens <= 12
        assert response.prompt_tokens > 200
        assert response.seconds > 0


@pytest.mark.slow
def test_a_greedy_answer_is_the_plain_loops(tiny_model, tokenizer, prompts, generate):
    weights = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = transformers_model(tiny_model)
    responses = generate_responses("m", model, prompts[:2], generate, 110).responses
    for prompt, response in zip(prompts, responses, strict=False):
        chat = [{"role": "user", "content": prompt.text}]
        ids = tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        for _ in range(12):
            following = weights(ids).logits[0, -1].argmax().reshape(1, 1)
            if following.item() == tokenizer.eos_token_id:
                break
            ids = torch.cat([ids, following], dim=1)
        text = tokenizer.decode(ids[0, response.prompt_tokens :], skip_special_tokens=True)
        assert response.raw == text


@pytest.mark.slow
def test_a_model_with_sliding_windows_is_answered_by_plain_batches(
    tokenizer, prompts, generate, monkeypatch
):
    """Its layers keep some of the keys only, so prompts can't be read one by one."""
    set_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=64, initializer_range=0.5,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    weights = MistralForCausalLM(config).eval()
    assert read_prompts(weights, [[5, 6, 7], [5, 8, 9]], 4) is None
    # no hub is asked
    monkeypatch.setattr("persodpo.models.chat_template.load_tokenizer", lambda *_: tokenizer)
    model = transformers_model("x/y", revision="a" * 40)
    together = raws(answer(weights, tokenizer, model, prompts[:3], generate))
    alone = [raws(answer(weights, tokenizer, model, [p], generate))[0] for p in prompts[:3]]
    assert together == alone


@pytest.mark.slow
def test_sampling_follows_the_seed(tiny_model, tokenizer, prompts, generate):
    weights = AutoModelForCausalLM.from_pretrained(tiny_model)
    first, again, other, greedy = (
        raws(answer(weights, tokenizer, transformers_model(tiny_model, temperature=t, seed=seed),
                    prompts, generate))
        for t, seed in [(1.0, 1), (1.0, 1), (1.0, 2), (0.0, 1)]
    )  # fmt: skip
    assert first == again
    assert first != other
    assert first != greedy


def test_no_decoding_setting_comes_from_the_checkpoint(tiny_model, tokenizer, prompts, generate):
    outputs = []
    for penalty in (1.0, 50.0):
        weights = AutoModelForCausalLM.from_pretrained(tiny_model)
        weights.generation_config.repetition_penalty = penalty
        outputs.append(
            raws(answer(weights, tokenizer, transformers_model(tiny_model), prompts[:2], generate))
        )
    assert outputs[0] == outputs[1]


def test_a_second_run_loads_no_weights(tiny_model, prompts, generate, monkeypatch):
    model = transformers_model(tiny_model)
    first = generate_responses("m", model, prompts[:3], generate, 110)
    assert (first.metrics["calls"], first.metrics["cache_hits"]) == (3, 0)
    assert first.metrics["prompt_tokens"] == sum(r.prompt_tokens for r in first.responses)
    monkeypatch.setattr(local, "load_policy", None)
    second = generate_responses("m", model, prompts[:3], generate, 110)
    assert second.responses == first.responses
    assert (second.metrics["calls"], second.metrics["cache_hits"]) == (0, 3)


@pytest.mark.slow
def test_an_adapters_answers_are_its_own(tiny_model, prompts, generate, tmp_path):
    model = transformers_model(tiny_model)
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model),
                             LoraConfig(r=2, target_modules="all-linear"))  # fmt: skip
    for name, weight in adapter.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapter.save_pretrained(tmp_path / "adapter")
    base = generate_responses("m", model, prompts[:3], generate, 110)
    tuned = generate_responses("m", model, prompts[:3], generate, 110, policy=tmp_path / "adapter")
    assert tuned.metrics["calls"] == 3
    assert raws(base.responses) != raws(tuned.responses)


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved(tiny_model, tokenizer, prompts, generate, monkeypatch):
    """Memory runs out, as the accelerator's allocator says it, above two prompts at a time."""
    sizes = []
    real = local.answer_batch

    def limited(weights, template, batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(weights, template, batch)

    weights = AutoModelForCausalLM.from_pretrained(tiny_model)
    model = transformers_model(tiny_model)
    expected = raws(answer(weights, tokenizer, model, prompts, generate))
    monkeypatch.setattr(local, "answer_batch", limited)
    eight = generate.model_copy(update={"batch_size": 8})
    assert raws(answer(weights, tokenizer, model, prompts, eight)) == expected
    assert sizes == [6, 4, 2, 2, 2]


def test_memory_for_not_even_one_prompt_is_reported(
    tiny_model, tokenizer, prompts, generate, monkeypatch
):
    def none(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    weights = AutoModelForCausalLM.from_pretrained(tiny_model)
    monkeypatch.setattr(local, "answer_batch", none)
    with pytest.raises(UserError, match="isn't enough memory to answer a single prompt; take a"):
        answer(weights, tokenizer, transformers_model(tiny_model), prompts, generate)


@pytest.mark.slow
def test_the_persona_can_be_left_out(tiny_model, prompts, generate):
    with_persona, without = (
        generate_responses("m", transformers_model(tiny_model, persona=persona), prompts[:1],
                           generate, 110).responses[0]
        for persona in (True, False)
    )  # fmt: skip
    assert without.prompt_tokens < with_persona.prompt_tokens - 20


def test_the_golden_answer_keeps_the_contract(prompts, generate):
    generated = generate_responses("ref", GoldenModel(backend="golden"), prompts, generate, 9)
    assert generated.metrics["failure_ratio"] == 0
    for prompt, response in zip(prompts, generated.responses, strict=True):
        assert response.answer == parse_response(response.raw).answer == prompt.golden_answer
        assert response.words == len(prompt.golden_answer.split())


@pytest.mark.slow
def test_a_real_answer_ends_when_its_object_closes(smollm2, tokenizer, generate):
    weights = load_causal_lm(smollm2, None, "key", torch.float32)
    texts = [
        'Write the JSON object {"response": "hello"} and explain it.',
        "Count from one to a hundred.",
    ]
    prompts = [
        Prompt(id=str(i), persona=["p"], turns=["t"], golden_answer="r", text=text)
        for i, text in enumerate(texts)
    ]
    longer = generate.model_copy(update={"max_tokens": 40})
    json_answer, prose = answer(weights, tokenizer, transformers_model(smollm2), prompts, longer)
    assert json_answer.finish_reason == "json"
    assert json_answer.raw.endswith("}")
    assert parse_response(json_answer.raw).contract == "valid"
    assert json_answer.completion_tokens < 40
    assert prose.finish_reason in ("length", "stop")
    assert parse_response(prose.raw).contract == "none"


def test_tokens_that_went_into_thoughts_on_this_machine(
    chat_model, tmp_path, prompts, generate, capsys
):
    """The template has opened the thoughts, and the model never ends them."""
    for file in chat_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    opened = CHATML.replace("assistant\n'", "assistant\n<think>\n'")
    (tmp_path / "chat_template.jinja").write_text(opened)
    model = transformers_model(tmp_path)
    rows = generate_responses("m", model, prompts[:2], generate, 60).responses
    assert [(row.raw, row.words, row.contract) for row in rows] == [("", 0, "none")] * 2
    plain = generate_responses("m", transformers_model(chat_model), prompts[:2], generate, 60)
    assert all(row.thoughts for row in rows)
    assert all(row.raw and row.thoughts is None for row in plain.responses)
    warnings = capsys.readouterr().err
    assert "models.m: 2 of 2 answers are empty, because their tokens went into thoughts" in warnings
    assert "by models.m.chat_template_kwargs" in warnings


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_higher_limit_asks_for_cut_answers_only(
    smollm2, generate, monkeypatch, tmp_path, temperature
):
    """And all are what they would have been without the cache."""
    texts = ['Write the JSON object {"response": "hello"}.', "Count to a hundred.", "Say hello."]
    prompts = [Prompt(id=str(i), persona=["p"], turns=["t"], golden_answer="r", text=text)
               for i, text in enumerate(texts)]  # fmt: skip
    model = transformers_model(smollm2, temperature=temperature)

    def generated(limit):
        params = generate.model_copy(update={"max_tokens": limit})
        return generate_responses("m", model, prompts, params, 5)

    first = generated(24)
    cut = [row.id for row in first.responses if row.finish_reason == "length"]
    assert 0 < len(cut) < len(prompts)
    second = generated(32)
    assert second.metrics["calls"] == len(cut)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "cold"))
    anew = generated(32)
    assert anew.metrics["calls"] == len(prompts)
    assert raws(anew.responses) == raws(second.responses)


@pytest.mark.slow
@pytest.mark.parametrize(("max_tokens", "is_told"), [(94, False), (93, True)])
def test_a_prompt_that_allows_more_words_than_the_tokens_hold_is_reported(
    tiny_model, prompts, generate, capsys, max_tokens, is_told
):
    """A word takes about 1.4 tokens and the format 10, so 60 words want 94."""
    model = transformers_model(tiny_model, max_tokens=max_tokens)
    generate_responses("m", model, prompts[:1], generate, 60)
    assert ("tokens hold about" in capsys.readouterr().err) == is_told


def test_the_default_allows_no_more_words_than_its_tokens_hold():
    params = load_params(ROOT / "params.yaml")
    assert params.generate.max_tokens >= 10 + 1.4 * params.sample.max_words
    assert params.generate.dtype == params.train.dtype == "float32"


def test_a_prompt_that_is_too_long_for_the_model_is_refused(tiny_model, prompts, generate):
    """Beyond its positions a model answers nonsense, which would count as its own failure."""
    model = transformers_model(tiny_model, max_tokens=2048)
    with pytest.raises(UserError, match=r"its answer up to 2048, and the model reads 2048 in all"):
        generate_responses("m", model, prompts, generate, 110)


def test_a_whole_policy_keeps_its_number_format(tmp_path, generate):
    """Steps of a training are smaller than what bfloat16 can tell apart."""
    half = generate.model_copy(update={"dtype": "bfloat16"})
    model = transformers_model("unused")
    assert TransformersCaller("m", model, half).dtype == torch.bfloat16
    assert TransformersCaller("m", model, half, tmp_path).dtype == torch.float32
    (tmp_path / "adapter_config.json").touch()
    assert TransformersCaller("m", model, half, tmp_path).dtype == torch.bfloat16
