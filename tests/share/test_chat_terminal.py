"""`python -m persodpo chat`: what is typed, and what is shown."""

import contextlib
import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chat_workspace import (
    ADAPTERS,
    PERSONA,
    answer_all_with,
    conversation,
    make_chat_workspace,
    output,
    refusal,
)
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from persodpo.cli import main
from persodpo.prompts import render_prompt
from persodpo.share.chat import conversation as conversation_module
from persodpo.share.chat.literal import literal
from persodpo.share.chat.persona import choose_persona
from persodpo.share.chat.terminal import _show_persona, run_loop
from persodpo.workflow.params import load_params


@pytest.fixture(scope="module")
def workspace(tiny_model, prompts, tmp_path_factory):
    """What a chat reads; tests that change it take `own_workspace` instead."""
    return make_chat_workspace(tmp_path_factory.mktemp("chat"), tiny_model, prompts)


@pytest.fixture(autouse=True)
def working_folder(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def own_workspace(workspace, tmp_path, monkeypatch):
    """A copy to be changed."""
    shutil.copytree(workspace, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")


@pytest.mark.slow
def test_the_answers_stand_side_by_side_with_words_and_seconds():
    lines = output("--persona", "I like castles.").splitlines()
    (head,) = [line for line in lines if line.split() == ["base", "dpo", "persodpo"]]
    starts = [head.index(name) for name in ("base", "dpo", "persodpo")]
    assert starts[2] - starts[1] == pytest.approx(starts[1] - starts[0], abs=1)
    (facts,) = [line for line in lines if " s, not valid JSON" in line]
    assert [i for i in starts if facts[i].isdigit()] == starts
    assert not Path(".cache").exists()


@pytest.mark.slow
def test_on_a_narrow_terminal_they_stand_one_below_the_other(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = output("--persona", "I like castles.").splitlines()
    assert [line for line in lines if line in ("base", *ADAPTERS)] == ["base", *ADAPTERS]


def test_an_answer_in_the_contract_is_taken_out_of_it_and_raw_on_request(monkeypatch):
    raw = '{"response": "An answer."}'
    answer_all_with(raw, monkeypatch)
    text = output("--with", "base", "--persona", "I sail.", typed="Hello\n/raw\n/raw\nBye\n/prompt")
    assert "not valid JSON" not in text
    assert "2 words, 0.2 s" in text
    before, after, *_ = text.split("Raw texts are shown.")
    assert raw not in before
    assert raw in after
    assert "User1: Hello\nUser2: An answer.\nUser1: Bye\n" in text
    assert raw in output("--with", "base", "--persona", "I sail.", "--raw")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("raw", "text"),
    [('{"response": "Cut o', "Cut o"), ("No JSON.", "No JSON."), ("", "")],
)
def test_an_answer_outside_the_contract_is_shown_and_marked(monkeypatch, raw, text):
    answer_all_with(raw, monkeypatch)
    written = output("--with", "base", "--persona", "I.", typed="Hi\nBye\n/prompt\n")
    lines = [line.strip() for line in written.splitlines()]
    count = len(text.split())
    words = f"{count} word{'' if count == 1 else 's'}, 0.2 s, not valid JSON"
    assert lines.count(words) == 2
    assert lines[lines.index(words) - 1] == text
    assert f"\nUser2: {text}\n" in written


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_persona_must_be_given_once_and_where_no_terminal_is():
    assert "standard input is no terminal" in refusal("--with", "base")
    assert "take one of them" in refusal("--persona", "I sail.", "--like", "x")
    assert "a sentence is empty" in refusal("--persona", " ")


@pytest.fixture(scope="module")
def talked(workspace):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        return conversation("base", "dpo")


ANYTHING = st.text() | st.sampled_from(
    ["[red]x[/red]", "[/]", ":smile:", "\x1b[2J", '{"response": "[b]"}']
)


def spaces_as_one(text):
    """A tab reaches to the next stop, which depends on the width of the characters before it."""
    return re.sub(r"[\t ]+", " ", text)


@pytest.mark.slow
@example(typed=["\u2e80\t0"], raw="x", width=80, show_raw=False)
@given(typed=st.lists(ANYTHING, max_size=3), raw=ANYTHING, width=st.integers(1, 120),
       show_raw=st.booleans())  # fmt: skip
def test_whatever_is_written_appears_as_text(talked, typed, raw, width, show_raw):
    talked.reset()
    typed = [text.strip() for text in typed]
    lines = iter([x for text in typed for x in (text, "/prompt")] + ["/persona", "/raw", "/quit"])
    screen = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        answer_all_with(raw, patch)
        run_loop(talked, Console(file=screen, width=width), lambda: next(lines), show_raw)
    written = screen.getvalue()
    assert "\x1b" not in written
    for text in typed:
        if text and not text.startswith("/"):
            visible = str(literal(text))
            assert spaces_as_one(f"User1: {visible}\n") in spaces_as_one(written)


def test_lines_of_a_pipe_need_not_be_unicode():
    written = output("--with", "base", "--persona", "I sail.", typed=b"caf\xe9\n/prompt\n")
    assert "User1: caf\N{REPLACEMENT CHARACTER}\n" in written
    assert "> " not in written


def test_a_mistake_is_reported_in_one_sentence(monkeypatch):
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


@pytest.mark.slow
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
    chosen = choose_persona([], None, lambda: next(lines), Console(file=io.StringIO()), "user")
    assert chosen == ["I sail.", "3"]


@pytest.mark.parametrize(
    ("owner", "texts"),
    [
        ("user", ["Whose persona do you take?", "sentences about yourself", "Your persona:"]),
        ("machine", ["persona do the models take?", "about them,", "The models' persona:"]),
    ],
)
def test_whose_persona_it_is(monkeypatch, owner, texts):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    written, lines = Console(file=io.StringIO(), width=200), iter(["I sail.", ""])
    _show_persona(choose_persona([], None, lambda: next(lines), written, owner), owner, written)
    assert all(text in written.file.getvalue() for text in texts)


def test_ctrl_c_ends_an_answer_cleanly(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(conversation_module, "answer_requests", interrupt)
    assert "With you: base." in output("--with", "base", "--persona", "I sail.")
