"""The model card of an export: its head, its numbers, its code."""

import json
import re
import shutil
import subprocess

import huggingface_hub.constants
import pytest
import torch
import yaml
from export_workspace import (
    HUB,
    METHOD,
    REVISION,
    card,
    evaluate,
    logits,
    make_adapter,
    make_export_workspace,
    python_blocks,
    set_base,
)
from typer.testing import CliRunner
from workspace import change_params

import persodpo.share.export
from persodpo.cli import app
from persodpo.config.train import starts
from persodpo.prompts import render_prompt
from persodpo.share.export import export_method
from persodpo.workflow.params import load_params


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch, tiny_model, prompts):
    make_export_workspace(tmp_path, monkeypatch, tiny_model, prompts)


@pytest.fixture
def adapter(tiny_model):
    return make_adapter(tiny_model)


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
    # with what it started from
    assert list(settings["methods"]) == ["sft", METHOD]
    assert settings["methods"][METHOD] == train.methods[METHOD].model_dump()
    for text in ("31 pairs over 6 prompts", "- loss: 0.6543", "- training: 6 prompts from",
                 "not in git", f"- torch {torch.__version__}", "| base ", f"| {METHOD} ",
                 "0.88 ± 0.00", "P has the weight"):  # fmt: skip
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
    expected = logits(adapter, tokenizer)
    torch.testing.assert_close(logits(names["model"], tokenizer), expected, rtol=0, atol=1e-5)


@pytest.mark.slow
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


@pytest.mark.parametrize(
    ("owner", "whom", "max_turns", "seen"),
    [("user", "the user", None, "first and last\n"),
     ("machine", "itself", 3, "first and last; the model was trained on the last 3 of all turns")],
)  # fmt: skip
def test_the_card_says_whose_persona_and_how_much_of_the_dialogue(
    tmp_path, adapter, owner, whom, max_turns, seen
):
    changes = {"persona_of": owner, "max_turns": max_turns}
    change_params(lambda params: params["sample"].update(changes))
    export_method(METHOD, tmp_path / "out")
    body = card(tmp_path / "out")[1]
    assert f"in the light of what is known about {whom}\n(the persona)" in body
    assert seen in body


def test_what_is_missing_or_outdated_is_reported(tmp_path, adapter, prompts):
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


def test_settings_of_the_start_and_of_the_pairs_are_compared_too(tmp_path, adapter):
    params = load_params(tmp_path / "params.yaml")
    (key, *_) = params.pool
    before = starts(params.train.methods, METHOD)[0]
    rate = f"train.methods.{before}"
    lock = {
        f"train@{before}": {rate: {"learning_rate": 0.7}},
        "sample": {"sample": {}},
        "pair": {"pairing": {}},
        f"generate@{key}": {f"models.{key}": {}, "generate": {}},
        f"evaluate@{METHOD}": {"score": {}},
        "report": {"evaluate": {}},
    }
    stages = {name: {"params": {"params.yaml": locked}} for name, locked in lock.items()}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    found = persodpo.share.export.changed_settings(METHOD, params)
    expected = {rate, "sample", "pairing", f"models.{key}", "generate", "score"}
    assert set(found) == expected - {"train.methods.base"}


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
