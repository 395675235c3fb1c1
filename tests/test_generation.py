import pytest
import torch
from conftest import SMOLLM2
from transformers import AutoModelForCausalLM

from persodpo.generation import generate_responses
from persodpo.generation.local import _ObjectClosed, answer_with_model
from persodpo.models import load_causal_lm
from persodpo.params import GenerateParams, ReferenceModel, TransformersModel
from persodpo.prompts import parse_response
from persodpo.records import Prompt


def params(**changes):
    return GenerateParams(**({"max_tokens": 12, "batch_size": 4, "dtype": "float32"} | changes))


def model(name, **changes):
    values = {"backend": "transformers", "model": str(name), "revision": None, "persona": True,
              "temperature": 0.0, "top_p": 1.0, "seed": 0}  # fmt: skip
    return TransformersModel(**(values | changes))


def raws(responses):
    return [response.raw for response in responses]


def test_one_response_per_prompt_in_order_whatever_the_batch(tiny_model, prompts):
    one, three, all_ = (
        generate_responses("m", model(tiny_model), prompts, params(batch_size=n), 110)
        for n in (1, 4, 16)
    )
    assert [r.id for r in one] == [p.id for p in prompts]
    assert raws(one) == raws(three) == raws(all_)
    for response in one:
        assert response.model == "m"
        assert 0 < response.completion_tokens <= 12
        assert response.prompt_tokens > 200
        assert response.seconds > 0


def test_a_greedy_answer_is_the_plain_loops(tiny_model, tokenizer, prompts):
    weights = AutoModelForCausalLM.from_pretrained(tiny_model)
    responses = generate_responses("m", model(tiny_model), prompts[:2], params(), 110)
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


def test_sampling_follows_the_seed(tiny_model, prompts):
    first, again, other, greedy = (
        raws(generate_responses("m", model(tiny_model, temperature=t, seed=seed), prompts,
                                params(), 110))
        for t, seed in [(1.0, 1), (1.0, 1), (1.0, 2), (0.0, 1)]
    )  # fmt: skip
    assert first == again
    assert first != other
    assert first != greedy


def test_no_decoding_setting_comes_from_the_checkpoint(tiny_model, tokenizer, prompts):
    outputs = []
    for penalty in (1.0, 50.0):
        weights = AutoModelForCausalLM.from_pretrained(tiny_model)
        weights.generation_config.repetition_penalty = penalty
        outputs.append(
            raws(answer_with_model("m", weights, tokenizer, model("x"), prompts[:2], params(), 110))
        )
    assert outputs[0] == outputs[1]


def test_the_persona_can_be_left_out(tiny_model, prompts):
    with_persona, without = (
        generate_responses("m", model(tiny_model, persona=persona), prompts[:1], params(), 110)[0]
        for persona in (True, False)
    )
    assert without.prompt_tokens < with_persona.prompt_tokens - 20


def test_the_reference_keeps_the_contract(prompts):
    responses = generate_responses("ref", ReferenceModel(backend="reference"), prompts, params(), 9)
    for prompt, response in zip(prompts, responses, strict=True):
        assert response.parsed == parse_response(response.raw) == prompt.reference
        assert response.words == len(prompt.reference.split())


def test_a_real_answer_ends_when_its_object_closes(tokenizer):
    weights = load_causal_lm(SMOLLM2, None, "key", "float32")
    texts = [
        'Write the JSON object {"response": "hello"} and explain it.',
        "Count from one to a hundred.",
    ]
    prompts = [
        Prompt(id=str(i), persona=["p"], turns=["t"], reference="r", text=text)
        for i, text in enumerate(texts)
    ]
    json_answer, prose = answer_with_model(
        "m", weights, tokenizer, model(SMOLLM2), prompts, params(max_tokens=40), 110
    )
    assert json_answer.finish_reason == "json"
    assert json_answer.raw.endswith("}")
    assert json_answer.parsed is not None
    assert json_answer.completion_tokens < 40
    assert prose.finish_reason in ("length", "stop")
    assert prose.parsed is None


@pytest.mark.parametrize(
    ("steps", "done_after"),
    [(['{"response"', ': "a', '"}', "xx"], 3), (['{"a": {"response": "b"', "}", " "], None)],
)
def test_the_stop_waits_for_the_outermost_brace(tokenizer, steps, done_after):
    prompt = tokenizer("{}")["input_ids"]  # a closed object in the prompt doesn't count
    stop = _ObjectClosed(tokenizer, len(prompt))
    ids, seen = list(prompt), []
    for step in steps:
        for token in tokenizer(step)["input_ids"]:
            ids.append(token)
            seen.append(stop(torch.tensor([ids]), torch.empty(0)).tolist())
    text = tokenizer.decode(ids[len(prompt) : len(prompt) + stop.length.get(0, 0)])
    assert text == ("".join(steps[:done_after]) if done_after else "")
