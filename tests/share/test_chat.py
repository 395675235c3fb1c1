"""`python -m persodpo chat`: several candidates answer what is typed, as they would elsewhere."""

import contextlib
import io
import json
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from rich.console import Console
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner
from workspace import change_params

from persodpo.cli import app, main
from persodpo.config.params import load_params
from persodpo.errors import UserError
from persodpo.generate.run import generate_responses
from persodpo.prompts import render_prompt
from persodpo.records import Answer, Prompt, write_rows
from persodpo.runner import ARTIFACTS
from persodpo.share.chat import conversation as conversation_module
from persodpo.share.chat.candidates import find_policies, load_candidates
from persodpo.share.chat.conversation import Conversation, TooLongError
from persodpo.share.chat.literal import literal
from persodpo.share.chat.persona import choose_persona
from persodpo.share.chat.terminal import run_loop

PERSONA = ("I like castles.", "I live in [bold]York[/bold].")
ADAPTERS = {"dpo": 1, "persodpo": 2}


@pytest.fixture(scope="module")
def adapters(tiny_model, tmp_path_factory):
    """Two adapters as the stage train leaves them, which change what the model says."""
    folder = tmp_path_factory.mktemp("adapters")
    for name, seed in ADAPTERS.items():
        torch.manual_seed(seed)
        config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules="all-linear")
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), config)
        for key, weights in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(weights, std=0.3)
        model.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def workspace(adapters, tiny_model, prompts, tmp_path_factory):
    """What a chat reads, in the working directory; tests that change it take `own` instead."""
    folder = tmp_path_factory.mktemp("chat")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(ROOT / "params.yaml", folder)

        def change(params):
            params["models"][params["train"]["model"]] |= {"model": str(tiny_model)}
            params["generate"] |= {"max_tokens": 12, "dtype": "float32"}

        change_params(change)
        write_rows(ARTIFACTS / "prompts/valid.jsonl", prompts[:4])
        write_rows(ARTIFACTS / "prompts/train.jsonl", prompts[4:])
        shutil.copytree(adapters, ARTIFACTS / "policies")
    return folder


@pytest.fixture(autouse=True)
def here(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def own(workspace, tmp_path, monkeypatch):
    """A copy to be changed."""
    shutil.copytree(workspace, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")


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
    adapter = None if name == "base" else ARTIFACTS / f"policies/{name}"
    model = params.trained_model()
    rows = generate_responses(name, model, [prompt], params.generate, params.sample.max_words,
                              adapter)  # fmt: skip
    return rows.responses[0]


def let_all_say(raw, patch):
    answer = Answer(raw=raw, finish_reason="json", seconds=0.2)
    patch.setattr(
        conversation_module, "answer_requests",
        lambda weights, template, requests, size, keep: keep(requests[0], answer),
    )  # fmt: skip


def test_each_candidate_answers_as_in_the_evaluation_and_has_its_own_history(own):
    talked = conversation("base", *ADAPTERS)
    assert len({id(candidate.weights) for candidate in talked.candidates}) == 1
    first = list(talked.send("Where is this place?"))
    second = list(talked.send("And how old is it?"))
    assert len({reply.raw for reply in first}) == 3
    for candidate, one, two in zip(talked.candidates, first, second, strict=True):
        expected = generated(candidate.name, PERSONA, ["Where is this place?"])
        assert (one.raw, one.contract) == (expected.raw, expected.contract)
        turns = ["Where is this place?", one.text, "And how old is it?"]
        assert two.raw == generated(candidate.name, PERSONA, turns).raw
        assert candidate.turns == [*turns, two.text]


def test_sampling_draws_as_in_the_evaluation(own):
    change_params(lambda p: p["models"][p["train"]["model"]].update(temperature=1.0, top_p=0.9))
    (reply,) = conversation("dpo").send("Hello")
    assert reply.raw == generated("dpo", PERSONA, ["Hello"]).raw


def test_a_method_trained_with_all_weights_stands_beside_the_adapters(own, tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(5)
    model.model.embed_tokens.weight.data += 0.3 * torch.randn_like(model.model.embed_tokens.weight)
    shutil.rmtree(ARTIFACTS / "policies/dpo")
    model.save_pretrained(ARTIFACTS / "policies/dpo")
    talked = conversation("base", "dpo", "persodpo")
    assert len({id(candidate.weights) for candidate in talked.candidates}) == 2
    said = [reply.raw for reply in talked.send("Hello")]
    assert said == [generated(c.name, PERSONA, ["Hello"]).raw for c in talked.candidates]
    (alone,) = conversation("dpo").send("Hello")
    assert alone.raw == said[1]


def test_the_answers_stand_side_by_side_with_words_and_seconds():
    lines = output("--persona", "I like castles.").splitlines()
    (head,) = [line for line in lines if line.split() == ["base", "dpo", "persodpo"]]
    starts = [head.index(name) for name in ("base", "dpo", "persodpo")]
    assert starts[2] - starts[1] == pytest.approx(starts[1] - starts[0], abs=1)
    (facts,) = [line for line in lines if " s, not valid JSON" in line]
    assert [i for i in starts if facts[i].isdigit()] == starts
    assert not Path(".cache").exists()


def test_on_a_narrow_terminal_they_stand_one_below_the_other(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = output("--persona", "I like castles.").splitlines()
    assert [line for line in lines if line in ("base", *ADAPTERS)] == ["base", *ADAPTERS]


def test_an_answer_in_the_contract_is_taken_out_of_it_and_raw_on_request(monkeypatch):
    raw = '{"response": "An answer."}'
    let_all_say(raw, monkeypatch)
    text = output("--with", "base", "--persona", "I sail.", typed="Hello\n/raw\n/raw\nBye\n/prompt")
    assert "not valid JSON" not in text
    assert "2 words, 0.2 s" in text
    before, after, *_ = text.split("Raw texts are shown.")
    assert raw not in before
    assert raw in after
    assert "User1: Hello\nUser2: An answer.\nUser1: Bye\n" in text
    assert raw in output("--with", "base", "--persona", "I sail.", "--raw")


@pytest.mark.parametrize(
    ("raw", "text"),
    [('{"response": "Cut o', "Cut o"), ("No JSON.", "No JSON."), ("", "")],
)
def test_an_answer_outside_the_contract_is_shown_and_marked(monkeypatch, raw, text):
    let_all_say(raw, monkeypatch)
    written = output("--with", "base", "--persona", "I.", typed="Hi\nBye\n/prompt\n")
    lines = [line.strip() for line in written.splitlines()]
    count = len(text.split())
    words = f"{count} word{'' if count == 1 else 's'}, 0.2 s, not valid JSON"
    assert lines.count(words) == 2
    assert lines[lines.index(words) - 1] == text
    assert f"\nUser2: {text}\n" in written


def test_the_prompt_is_shown_to_the_letter(tokenizer):
    text = output("--with", "dpo", *(x for line in PERSONA for x in ("--persona", line)),
                  typed="/prompt\nHello [red]there\n/prompt\n/new\n/prompt\n")  # fmt: skip
    prompt = render_prompt(PERSONA, ["Hello [red]there"], load_params().sample.max_words)
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
    )
    assert f"dpo was asked:\n{whole}\n" in text
    assert text.count("Nothing was asked yet.") == 2
    assert "- I live in [bold]York[/bold]." in text.splitlines()


def test_a_new_conversation_forgets_the_old_one():
    typed = "One\n/new\nTwo\n/prompt\n/persona\n/help\n/nonsense\n/quit\nThree\n/prompt\n"
    text = output("--with", "base", "--persona", "I sail.", typed=typed)
    assert text.count("was asked:") == 1
    assert "Conversation:\nUser1: Two\n\n" in text
    assert text.count("- I sail.\n") == 3  # at the start, in the prompt, on request
    assert "/persona  show the persona" in text
    assert "There is no command /nonsense" in text


def test_the_persona_of_a_prompt_is_taken_by_its_id(prompts):
    for prompt in (prompts[0], prompts[5]):
        text = output("--like", prompt.id, "--with", "base", typed="")
        assert all(f"- {sentence}" in text for sentence in prompt.persona)
    message = refusal("--like", "nowhere")
    assert "--like nowhere: neither sample has a prompt of that id" in message
    assert prompts[0].id in message


def test_only_who_is_chosen_answers(own):
    text = output("--with", "persodpo", "--with", "base", "--persona", "I sail.")
    assert "With you: base, persodpo." in text
    message = refusal("--with", "nobody", "--persona", "I sail.")
    assert "nobody" in message
    assert f"choose of {', '.join(['base', *load_params().train.methods])}." in message


def test_a_method_that_is_not_trained_is_refused_or_left_out():
    message = refusal("--with", "persodpo_sft", "--persona", "I sail.")
    assert "run dvc repro train@persodpo_sft" in message
    assert "dvc pull" in message
    result = run("--persona", "I sail.", typed="")
    assert "With you: base, dpo, persodpo." in result.stdout
    left_out = [line for line in result.stderr.splitlines() if "is left out" in line]
    untrained = [name for name in load_params().train.methods if name not in ADAPTERS]
    assert [line.split()[0] for line in left_out] == untrained


def test_an_adapter_of_another_base_is_refused(own):
    file = ARTIFACTS / "policies/dpo/adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"base_model_name_or_path": "another"}))
    assert "trained on 'another'" in refusal("--with", "dpo", "--persona", "I sail.")
    assert "With you: base, persodpo." in output("--persona", "I sail.", typed="")


def test_a_persona_must_be_given_once_and_where_no_terminal_is():
    assert "standard input is no terminal" in refusal("--with", "base")
    assert "take one of them" in refusal("--persona", "I sail.", "--like", "x")
    assert "a sentence is empty" in refusal("--persona", " ")


def test_a_long_conversation_loses_its_oldest_turns_two_at_a_time():
    talked = conversation("base")
    (candidate,) = talked.candidates
    limit = candidate.weights.config.max_position_embeddings
    text = io.StringIO()
    lines = iter([*(f"{i} " + "castle " * 300 for i in range(9)), "x " * limit, "/quit"])
    run_loop(talked, Console(file=text, width=100), lambda: next(lines).strip(), False)
    assert text.getvalue().count("From now on the oldest turns are left out for base") == 1
    assert "room for an answer, and base reads no more than" in " ".join(text.getvalue().split())
    assert len(candidate.turns) == 18
    asked = talked.last_prompt
    assert "User1: 0 castle" not in asked
    dialogue = asked.split("Conversation:\n")[1]
    assert dialogue.startswith("User1: ")
    assert "User1: 8 castle" in dialogue
    assert "- I like castles." in asked
    room = limit - talked.params.generate.max_tokens
    assert len(talked.template.tokenizer(asked, add_special_tokens=False)["input_ids"]) <= room
    # one pair of turns more would not have fitted
    first = int(dialogue.split()[1])
    more = render_prompt(PERSONA, [*candidate.turns[2 * first - 2 : 16], "8 " + "castle " * 300],
                         talked.params.sample.max_words)  # fmt: skip
    assert len(talked.template.tokenizer(more)["input_ids"]) > room - 40
    with pytest.raises(TooLongError):
        list(talked.send("x " * limit))


@pytest.fixture(scope="module")
def talked(workspace):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        return conversation("base", "dpo")


ANYTHING = st.text() | st.sampled_from(
    ["[red]x[/red]", "[/]", ":smile:", "\x1b[2J", '{"response": "[b]"}']
)


@given(typed=st.lists(ANYTHING, max_size=3), raw=ANYTHING, width=st.integers(1, 120),
       show_raw=st.booleans())  # fmt: skip
def test_whatever_is_said_appears_as_text(talked, typed, raw, width, show_raw):
    talked.reset()
    typed = [text.strip() for text in typed]
    lines = iter([x for text in typed for x in (text, "/prompt")] + ["/persona", "/raw", "/quit"])
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        let_all_say(raw, patch)
        run_loop(talked, Console(file=screen, width=width), lambda: next(lines), show_raw)
    written = screen.getvalue()
    assert "\x1b" not in written
    for text in typed:
        if text and not text.startswith("/"):
            visible = str(literal(text))
            assert f"User1: {visible}\n".expandtabs() in written.expandtabs()


def test_lines_of_a_pipe_need_not_be_unicode():
    written = output("--with", "base", "--persona", "I sail.", typed=b"caf\xe9\n/prompt\n")
    assert "User1: caf\N{REPLACEMENT CHARACTER}\n" in written
    assert "> " not in written


def test_a_mistake_is_told_in_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["persodpo", "chat", "--with", "nobody"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert str(caught.value).startswith("error: --with nobody: there is no such model")
    assert "\n" not in str(caught.value)


# Ctrl-C is a signal only to a process whose controlling terminal this is, and which doesn't
# ignore it, as those do that a shell has started in the background, and their children.
AT_A_TERMINAL = """
import fcntl, runpy, signal, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("persodpo", run_name="__main__")
"""


def test_the_persona_is_picked_at_a_terminal_and_ctrl_c_ends_the_talk(prompts):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL, "chat", "--with", "base"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = ""

    def wait_for(text):
        nonlocal seen
        end = time.monotonic() + 60
        while text not in seen:
            assert time.monotonic() < end, seen
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 4096).decode(errors="replace")
        seen = seen.split(text, 1)[1]

    try:
        wait_for(f"2  {prompts[1].id}: {prompts[1].persona[0][:20]}")
        wait_for("> ")
        os.write(ours, b"77\n")
        wait_for("Take a number from 1 to 4.")
        os.write(ours, b"2\n")
        for sentence in prompts[1].persona:
            wait_for(f"- {sentence[:60]}")
        wait_for("> ")
        os.write(ours, b"Hello\n")
        wait_for(" word")
        wait_for("> ")
        for _ in range(3):
            # again if it was lost: readline passes over one that comes while it prepares to wait
            os.write(ours, b"\x03")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
                break
        assert process.poll() == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_persona_is_typed_at_a_terminal(monkeypatch):
    lines = iter(["", "I sail.", "3", ""])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    chosen = choose_persona([], None, lambda: next(lines), Console(file=io.StringIO()))
    assert chosen == ["I sail.", "3"]


def test_ctrl_c_ends_an_answer_cleanly(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(conversation_module, "answer_requests", interrupt)
    assert "With you: base." in output("--with", "base", "--persona", "I sail.")
