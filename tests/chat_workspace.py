"""What the tests of the chat share: a folder that it reads, and ways to talk in it."""

import shutil

import pytest
import torch
from conftest import ROOT
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner
from workspace import change_params

from persodpo.cli import app
from persodpo.errors import UserError
from persodpo.generate.run import generate_responses
from persodpo.prompts import render_prompt
from persodpo.records import Answer, Prompt, write_rows
from persodpo.runner import ARTIFACTS
from persodpo.share.chat import conversation as conversation_module
from persodpo.share.chat.candidates import find_policies, load_candidates
from persodpo.share.chat.conversation import Conversation
from persodpo.workflow.params import load_params

PERSONA = ("I like castles.", "I live in [bold]York[/bold].")
ADAPTERS = {"dpo": 1, "persodpo": 2}


def make_adapters(folder, tiny_model):
    """Two adapters as the stage train leaves them, which change what the model says."""
    for name, seed in ADAPTERS.items():
        torch.manual_seed(seed)
        config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules="all-linear")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
        for key, weights in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(weights, std=0.3)
        model.save_pretrained(folder / name)


def make_chat_workspace(folder, tiny_model, prompts):
    """Fill a folder with what a chat reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(ROOT / "params.yaml", folder)

        def change(params):
            params["models"][params["train"]["model"]] |= {"model": str(tiny_model)}
            params["generate"] |= {"max_tokens": 12, "dtype": "float32"}
            params["sample"]["max_turns"] = None

        change_params(change)
        write_rows(ARTIFACTS / "prompts/valid.jsonl", prompts[:4])
        write_rows(ARTIFACTS / "prompts/train.jsonl", prompts[4:])
        make_adapters(ARTIFACTS / "policies", tiny_model)
    return folder


def run(*arguments, typed="Hello\n"):
    result = CliRunner().invoke(app, ["chat", *arguments], input=typed)
    if result.exception is None:
        assert result.exit_code == 0
    return result


def output(*arguments, typed="Hello\n"):
    result = run(*arguments, typed=typed)
    assert result.exception is None, result.exception
    return result.stdout


def refusal(*arguments, **options):
    error = run(*arguments, **options).exception
    assert isinstance(error, UserError)
    return str(error)


def conversation(*names, persona=PERSONA):
    params = load_params()
    candidates, template = load_candidates(find_policies(names, params), params)
    return Conversation(candidates, template, persona, params)


def generated(name, persona, turns):
    """What the evaluation gives for the same dialogue, with the adapter merged."""
    params = load_params()
    text = render_prompt(persona, turns, params.sample.max_words)
    prompt = Prompt(id="p", persona=list(persona), turns=list(turns), golden_answer="", text=text)
    policy = None if name == "base" else ARTIFACTS / f"policies/{name}"
    model = params.trained_model()
    rows = generate_responses(name, model, [prompt], params.generate, params.sample.max_words,
                              policy)  # fmt: skip
    return rows.responses[0]


def answer_all_with(raw, patch):
    answer = Answer(raw=raw, finish_reason="json", seconds=0.2)
    patch.setattr(
        conversation_module, "answer_requests",
        lambda weights, template, requests, size, store: store(requests[0], answer),
    )  # fmt: skip
