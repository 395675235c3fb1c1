"""What others get who are sent a trained method: the folder is used as they would use it."""

import json
import re
import shutil
import subprocess

import huggingface_hub.constants
import pytest
import torch
import yaml
from conftest import ROOT
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
from typer.testing import CliRunner
from workspace import change_params

import persodpo.share.export
from persodpo.cli import app
from persodpo.errors import UserError
from persodpo.generate.run import generate_responses
from persodpo.pair.scoring import Bounds, Scale
from persodpo.prompts import render_prompt
from persodpo.records import Evaluated, Response, Score, write_rows
from persodpo.runner import ARTIFACTS, write_json
from persodpo.share.export import export_method
from persodpo.workflow.params import load_params

METHOD = "persodpo"
POLICY = ARTIFACTS / f"policies/{METHOD}"
HUB, REVISION = "someone/tiny", "0123456789abcdef0123456789abcdef01234567"
PAIRS = {"pool": {"responses": 24, "valid": 17, "missing_values": 0},
         "persodpo": {"pairs": 31, "prompts": 6}, "dpo": {"pairs": 12, "prompts": 5}}  # fmt: skip


def set_base(name, revision=None):
    def change(params):
        params["models"][params["train"]["model"]] |= {"model": str(name), "revision": revision}

    change_params(change)


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch, tiny_model, prompts):
    """Everything that an export reads but a policy and evaluations."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    set_base(tiny_model)
    change_params(lambda params: params["generate"].update(max_tokens=5))
    for split in ("train", "valid"):
        write_rows(ARTIFACTS / f"prompts/{split}.jsonl", prompts)
    write_json(ARTIFACTS / "pairs/metrics.json", PAIRS)
    bounds = {key: Bounds(low=-1.0, high=2.0) for key in ("c", "ue", "p", "coh")}
    write_json(ARTIFACTS / "pairs/scale.json", Scale(bounds=bounds, target=30.0).model_dump())
    write_json(ARTIFACTS / f"training/{METHOD}.json", {"pairs": 31, "steps": 6, "loss": 0.654321})


def make_adapter(base, name=None, revision=None):
    """An adapter as the stage train leaves it, one that changes what the model says."""
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules="all-linear")
    model = get_peft_model(model, config)
    torch.manual_seed(1)
    for key, weights in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(POLICY)
    file = POLICY / "adapter_config.json"
    named = {"base_model_name_or_path": name or str(base), "revision": revision}
    file.write_text(json.dumps(json.loads(file.read_text()) | named))
    return model


@pytest.fixture
def adapter(tiny_model):
    return make_adapter(tiny_model)


def evaluate(name, prompts):
    """An evaluation as the stage leaves it, with a made-up answer and score to each prompt."""
    answer = {"model": name, "contract": "valid", "answer": "So be it."}
    rows = [Evaluated(
        response=Response(id=p.id, raw="", words=3, seconds=0.5, prompt_tokens=9, request_key=None,
                          completion_tokens=5, finish_reason="json", served_model=None,
                          system_fingerprint=None, **answer),
        score=Score(id=p.id, values={"c": 1.0, "ue": 0.0, "p": 0.8765, "coh": 0.4}, **answer),
    ) for p in prompts]  # fmt: skip
    write_rows(ARTIFACTS / f"evaluations/{name}.jsonl", rows)


def card(folder):
    """The YAML head and the body of a card."""
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def python_blocks(body):
    return re.findall(r"```python\n(.*?)```", body, re.DOTALL)


@torch.inference_mode()
def logits(model, tokenizer):
    model.eval()
    return model(**tokenizer("Where is this place?", return_tensors="pt")).logits


def test_the_merged_model_is_base_and_adapter(tmp_path, adapter, tiny_model, tokenizer):
    export_method(METHOD, tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert merged.dtype == torch.float32
    wanted = logits(adapter, tokenizer)
    torch.testing.assert_close(logits(merged, tokenizer), wanted, rtol=0, atol=1e-5)
    assert (logits(base, tokenizer) - wanted).abs().max() > 0.1
    kept = PeftModel.from_pretrained(base, tmp_path / "out/adapter")
    torch.testing.assert_close(logits(kept, tokenizer), wanted, rtol=0, atol=0)
    answer = pipeline("text-generation", str(tmp_path / "out"))(
        [{"role": "user", "content": "Hello"}], max_new_tokens=2
    )
    assert answer[0]["generated_text"][-1]["role"] == "assistant"


def test_the_merged_model_has_the_number_format_of_its_base(tmp_path, tiny_model, tokenizer):
    base = AutoModelForCausalLM.from_pretrained(tiny_model).to(torch.bfloat16)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    set_base(tmp_path / "base")
    make_adapter(tmp_path / "base")
    export_method(METHOD, tmp_path / "out")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    assert "(bfloat16)" in card(tmp_path / "out")[1]


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


def test_a_whole_model(tmp_path, tiny_model, tokenizer):
    policy = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(2)
    policy.model.norm.weight.data.normal_()
    policy.save_pretrained(POLICY)
    tokenizer.save_pretrained(POLICY)
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


def test_the_card_of_a_packaged_or_local_base(tmp_path, adapter, tiny_model, prompts):
    evaluate("base", prompts)
    evaluate(METHOD, prompts)
    export_method(METHOD, tmp_path / "out")
    head, body = card(tmp_path / "out")
    # the hub refuses a base_model that isn't a model there
    assert "base_model" not in head
    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "text-generation"
    assert head["persodpo"]["base"] == {"model": str(tiny_model), "revision": None}
    settings = yaml.safe_load(re.search(r"```yaml\n(.*?)```", body, re.DOTALL)[1])["train"]
    train = load_params().train
    assert settings["beta"] == train.beta
    assert settings["methods"] == {METHOD: train.methods[METHOD].model_dump()}
    for text in ("31 over 6 prompts", "- loss: 0.6543", "- training: 6 prompts from",
                 "not in git", f"- torch {torch.__version__}", "| base ", f"| {METHOD} ",
                 "0.88 ± 0.00"):  # fmt: skip
        assert text in body, text
    assert "not evaluated" not in body
    assert "dvc.lock" not in body


def test_the_card_of_a_base_on_the_hub(tmp_path, monkeypatch, tiny_model, tokenizer):
    """A base in the hub's cache, as a training leaves it there."""
    snapshot = tmp_path / f"hub/models--someone--tiny/snapshots/{REVISION}"
    shutil.copytree(tiny_model, snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    set_base(HUB, REVISION)
    adapter = make_adapter(snapshot, HUB, REVISION)
    export_method(METHOD, tmp_path / "out")
    head, body = card(tmp_path / "out")
    assert head["base_model"] == HUB
    assert REVISION in body
    config = json.loads((tmp_path / "out/adapter/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (HUB, REVISION)
    monkeypatch.chdir(tmp_path / "out")
    _, code = python_blocks(body)
    names = {}
    exec(code, names)
    wanted = logits(adapter, tokenizer)
    torch.testing.assert_close(logits(names["model"], tokenizer), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_code_in_the_card_runs(tmp_path, monkeypatch, adapter, capsys, temperature):
    key = load_params().train.model
    change_params(lambda params: params["models"][key].update(temperature=temperature))
    export_method(METHOD, tmp_path / "out")
    (code,) = python_blocks(card(tmp_path / "out")[1])
    monkeypatch.chdir(tmp_path / "out")
    capsys.readouterr()
    names = {}
    exec(code, names)
    assert capsys.readouterr().out.strip()
    max_words = load_params(tmp_path / "params.yaml").sample.max_words
    assert names["prompt"] == render_prompt(names["persona"], names["turns"], max_words)
    assert 1 <= names["output"].shape[1] - names["inputs"]["input_ids"].shape[1] <= 5


def test_the_code_in_the_card_parses_answers(tmp_path, adapter):
    """The last lines, on what a trained model says."""
    export_method(METHOD, tmp_path / "out")
    (code,) = python_blocks(card(tmp_path / "out")[1])
    parse = code[code.index("try:") :]
    for text, answer in [
        ('Sure: {"response": "A {brace}."} Bye', "A {brace}."),
        ('{"response": "cut', None), ('{"reply": "x"}', None), ("no", None),
    ]:  # fmt: skip
        names = {"json": json, "text": text}
        exec(parse, names)
        assert names["answer"] == answer


def test_the_prompt_as_a_model_reads_it(tmp_path, adapter, prompts, tokenizer):
    export_method(METHOD, tmp_path / "out")
    text = (tmp_path / "out/prompt.txt").read_text()
    example = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompts[0].text}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith(f"=====\n\n{example}\n")
    words = load_params().sample.max_words
    assert text.startswith(render_prompt(["PERSONA"], ["DIALOGUE"], words) + "\n\n=====")


def test_what_is_missing_or_outdated_is_said(tmp_path, adapter, prompts):
    done = CliRunner().invoke(app, ["export", METHOD, "--to", "out"])
    assert done.exit_code == 0, done.output
    assert f"{METHOD} isn't evaluated" in done.output
    assert f"**{METHOD} was not evaluated.**" in card(tmp_path / "out")[1]
    evaluate("base", prompts)
    lock = {"stages": {f"train@{METHOD}": {"params": {"params.yaml": {
        "train.beta": 0.7, "train.seed": 0, "train.no_more": 1}}}}}  # fmt: skip
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    done = CliRunner().invoke(app, ["export", METHOD, "--to", "out", "--force"])
    assert "dvc.lock has other values of train.beta, train.no_more than" in done.output
    body = card(tmp_path / "out")[1]
    assert "dvc.lock has other values of train.beta, train.no_more." in body
    assert "| base " in body
    assert f"**{METHOD} was not evaluated.**" in body


def test_the_commit_is_named(tmp_path, adapter):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / ".gitignore").write_text("/artifacts/\n")
    git("add", ".")
    git("commit", "-qm", "start")
    commit = git("rev-parse", "HEAD")
    assert persodpo.share.export.git_state() == commit
    (tmp_path / "new.py").touch()
    assert persodpo.share.export.git_state() == f"{commit}, with uncommitted changes"


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


def test_mistakes_are_told(tmp_path, tiny_model):
    out = tmp_path / "out"
    with pytest.raises(
        UserError, match=r"train.methods has no key 'sft'; the keys there are dpo, "
    ):
        export_method("sft", out)
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
