"""What others get who are sent a trained method: the folder is used as they would use it."""

import pytest
import torch
from export_workspace import (
    METHOD,
    POLICY,
    card,
    logits,
    make_adapter,
    make_export_workspace,
    set_base,
)
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from workspace import change_params

import persodpo.share.export
from persodpo.errors import UserError
from persodpo.generate.run import generate_responses
from persodpo.prompts import render_prompt
from persodpo.runner import ARTIFACTS
from persodpo.share.export import export_method
from persodpo.workflow.params import load_params


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch, tiny_model, prompts):
    make_export_workspace(tmp_path, monkeypatch, tiny_model, prompts)


@pytest.fixture
def adapter(tiny_model):
    return make_adapter(tiny_model)


@pytest.mark.slow
def test_the_merged_model_is_base_and_adapter(tmp_path, adapter, tiny_model, tokenizer):
    export_method(METHOD, tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert merged.dtype == torch.float32
    expected = logits(adapter, tokenizer)
    torch.testing.assert_close(logits(merged, tokenizer), expected, rtol=0, atol=1e-5)
    assert (logits(base, tokenizer) - expected).abs().max() > 0.1
    on_base = PeftModel.from_pretrained(base, tmp_path / "out/adapter")
    torch.testing.assert_close(logits(on_base, tokenizer), expected, rtol=0, atol=0)
    answer = pipeline("text-generation", str(tmp_path / "out"))(
        [{"role": "user", "content": "Hello"}], max_new_tokens=2
    )
    assert answer[0]["generated_text"][-1]["role"] == "assistant"


@pytest.mark.slow
def test_the_merged_model_has_the_number_format_of_its_base(tmp_path, tiny_model, tokenizer):
    base = AutoModelForCausalLM.from_pretrained(tiny_model).to(torch.bfloat16)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    set_base(tmp_path / "base")
    make_adapter(tmp_path / "base")
    export_method(METHOD, tmp_path / "out")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    assert "(bfloat16)" in card(tmp_path / "out")[1]


@pytest.mark.slow
def test_the_decoding_is_that_of_the_evaluation(tmp_path, adapter, tokenizer, prompts):
    """What plain transformers says with the folder alone is what the evaluation gives."""
    export_method(METHOD, tmp_path / "out")
    params = load_params()
    generated = generate_responses(
        params.train.model, params.trained_model(), prompts[:3], params.generate,
        params.sample.max_words, policy=POLICY,
    ).responses  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (model.generation_config.max_new_tokens, model.generation_config.do_sample) == (5, False)
    for prompt, expected in zip(prompts, generated, strict=False):
        inputs = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt.text}],
            add_generation_prompt=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
        written = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
        assert tokenizer.decode(written, skip_special_tokens=True) == expected.raw
    change_params(lambda p: p["models"][p["train"]["model"]].update(
        temperature=0.7, top_p=0.9, max_tokens=3))  # fmt: skip
    export_method(METHOD, tmp_path / "drawn")
    config = AutoModelForCausalLM.from_pretrained(tmp_path / "drawn").generation_config
    assert (config.do_sample, config.temperature, config.top_p, config.top_k) == (True, 0.7, 0.9, 0)
    assert config.max_new_tokens == 3
    assert config.eos_token_id == [tokenizer.eos_token_id]


@pytest.mark.slow
def test_a_dated_template_keeps_its_date(tmp_path, tiny_model, tokenizer):
    """Or whoever uses the model would ask it something else than it was trained on."""
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    file = tmp_path / "base/chat_template.jinja"
    file.write_text("{{ strftime_now('%d %b %Y') }}\n" + file.read_text())
    set_base(tmp_path / "base")
    make_adapter(tmp_path / "base")
    export_method(METHOD, tmp_path / "out")
    exported = AutoTokenizer.from_pretrained(tmp_path / "out")
    chat = [{"role": "user", "content": "Hello"}]
    assert exported.apply_chat_template(chat, tokenize=False).startswith("01 Jan 2026\n")
    assert "\n01 Jan 2026\n" in (tmp_path / "out/prompt.txt").read_text()


@pytest.mark.slow
def test_a_whole_model(tmp_path, tiny_model, tokenizer):
    policy = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(2)
    policy.model.norm.weight.data.normal_()
    policy.save_pretrained(POLICY)
    tokenizer.save_pretrained(POLICY)
    # of a base in bfloat16, which would round the steps of the training away
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(tiny_model).to(torch.bfloat16).save_pretrained(half)
    tokenizer.save_pretrained(half)
    set_base(half, None)
    change_params(lambda params: params["train"].update(lora=None))
    export_method(METHOD, tmp_path / "out")
    assert not (tmp_path / "out/adapter").exists()
    assert "All weights were trained" in card(tmp_path / "out")[1]
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(
        logits(exported, AutoTokenizer.from_pretrained(tmp_path / "out")),
        logits(policy, tokenizer),
        rtol=0, atol=1e-5,
    )  # fmt: skip


def test_the_prompt_as_a_model_reads_it(tmp_path, adapter, prompts, tokenizer):
    export_method(METHOD, tmp_path / "out")
    text = (tmp_path / "out/prompt.txt").read_text()
    example = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompts[0].text}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith(f"=====\n\n{example}\n")
    words = load_params().sample.max_words
    assert text.startswith(render_prompt(["PERSONA"], ["DIALOGUE"], words) + "\n\n=====")


def test_an_existing_folder_is_replaced_by_force_only(tmp_path, adapter):
    out = tmp_path / "exports/out"
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists; name another folder with --to, or say --force"):
        export_method(METHOD, out)
    with pytest.raises(UserError, match=r"replaces an earlier export .* no prompt.txt in it"):
        export_method(METHOD, out, force=True)
    assert [file.name for file in out.iterdir()] == ["notes.txt"]
    (out / "prompt.txt").touch()  # as of an earlier export
    export_method(METHOD, out, force=True)
    assert not (out / "notes.txt").exists()
    assert (out / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert [file.name for file in out.parent.iterdir()] == ["out"]


@pytest.mark.slow
def test_an_error_in_the_middle_leaves_what_was_there(tmp_path, adapter, monkeypatch):
    def fail(facts):
        raise OSError("disk full")

    out = tmp_path / "exports/out"
    with monkeypatch.context() as broken:
        broken.setattr(persodpo.share.export, "model_card", fail)
        with pytest.raises(OSError, match="disk full"):
            export_method(METHOD, out)
        assert list(out.parent.iterdir()) == []
    export_method(METHOD, out)
    before = (out / "README.md").read_text()
    monkeypatch.setattr(persodpo.share.export, "model_card", fail)
    with pytest.raises(OSError, match="disk full"):
        export_method(METHOD, out, force=True)
    assert (out / "README.md").read_text() == before
    assert list(out.parent.iterdir()) == [out]


def test_mistakes_are_reported(tmp_path, tiny_model):
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match=r"train.methods has no key 'ppo'; the keys there are sft, dpo, "
    ):
        export_method("ppo", out)
    with pytest.raises(UserError, match=r"dvc repro train@persodpo to train it, or dvc pull"):
        export_method(METHOD, out)
    make_adapter(tiny_model, "pypi:another")
    with pytest.raises(UserError, match=r"was trained on 'pypi:another', .*dvc repro train@pers"):
        export_method(METHOD, out)
    make_adapter(tiny_model)
    (ARTIFACTS / f"training/{METHOD}.json").unlink()
    with pytest.raises(UserError, match=r"training/persodpo.json: can't be read"):
        export_method(METHOD, out)
    assert not out.exists()
