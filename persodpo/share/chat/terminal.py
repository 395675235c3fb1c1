"""The talk itself: lines are read, commands obeyed, answers shown side by side."""

import contextlib
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from rich.console import Console
from rich.table import Table
from rich.text import Text

from persodpo.prompts import PersonaOf
from persodpo.share.chat.candidates import find_policies, load_candidates
from persodpo.share.chat.conversation import Conversation, Reply, TooLongError
from persodpo.share.chat.literal import literal
from persodpo.share.chat.persona import Read, choose_persona
from persodpo.workflow import load_params

NARROWEST = 30  # columns of a candidate; with fewer, answers stand one below the other
HELP = """\
/raw      show the texts as the models gave them, or the answers again
/prompt   show what was last asked, to the letter
/persona  show the persona
/new      forget the conversation
/help     show this
/quit     end, as Ctrl-D and Ctrl-C do"""


def run_chat(chosen: Sequence[str], persona: Sequence[str], like: str | None, raw: bool) -> None:
    """Talk until the user ends it.

    Args:
        chosen: Whom to talk to: `base` and keys of `train.methods`; empty for all there are.
        persona: Sentences about the user; empty to take another's, or to ask for them.
        like: The id of a prompt whose persona the user takes.
        raw: Show raw texts from the start.

    Raises:
        UserError: A name or an id doesn't exist, a method isn't trained or belongs to another
            base, or there is no persona and no terminal to ask for one.
    """
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that can't be shown is no failure
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - gives input() line editing, where Python has it
    console = Console(highlight=False, markup=False, emoji=False)
    params = load_params()
    policies = find_policies(chosen, params)
    try:
        owner = params.sample.persona_of
        sentences = choose_persona(persona, like, _read, console, owner)
        _show_persona(sentences, owner, console)
        candidates, template = load_candidates(policies, params)
        console.print(Text(f"With you: {', '.join(policies)}. Commands: /help"))
        if params.sample.max_turns is not None:
            console.print(
                Text(
                    f"As in the training, they see no more than the last {params.sample.max_turns} "
                    "of all turns (sample.max_turns)."
                )
            )
        run_loop(Conversation(candidates, template, sentences, params), console, _read, raw)
    except (EOFError, KeyboardInterrupt):
        if sys.stdin.isatty():
            console.print()  # the shell's prompt gets a line of its own


def run_loop(conversation: Conversation, console: Console, read: Read, raw: bool) -> None:
    """Answer the user's lines until `/quit`; `read` gives the next one, or raises EOFError."""
    replies: list[Reply] = []
    has_warned = False
    while True:
        line = read()
        match line:
            case "":
                continue
            case "/quit":
                return
            case "/help":
                console.print(Text(HELP))
            case "/persona":
                owner = conversation.params.sample.persona_of
                _show_persona(conversation.persona, owner, console)
            case "/prompt":
                _show_prompt(conversation, console)
            case "/new":
                conversation.reset()
                replies, has_warned = [], False
                console.print(Text("The conversation is forgotten."))
            case "/raw":
                raw = not raw
                console.print(Text("Raw texts are shown." if raw else "Answers are shown."))
                _show_replies(conversation, replies, console, raw)
            case _ if line.startswith("/"):
                console.print(literal(f"There is no command {line}; /help lists them."))
            case _:
                try:
                    replies = _replies(conversation, line, console)
                except TooLongError as error:
                    console.print(Text(str(error)))
                    continue
                if conversation.shortened and not has_warned:
                    names = ", ".join(c.name for c in conversation.candidates
                                      if c.name in conversation.shortened)  # fmt: skip
                    console.print(
                        Text(f"From now on the oldest turns are left out for {names}: too long.")
                    )
                    has_warned = True
                _show_replies(conversation, replies, console, raw)


def _read() -> str:
    """The user's next line."""
    return input("> " if sys.stdin.isatty() else "").strip()


def _replies(conversation: Conversation, text: str, console: Console) -> list[Reply]:
    """All answers to a turn; at a terminal it is shown that they are on their way."""
    with console.status(Text("The answers are being written.")):
        return list(conversation.send(text))


def _show_replies(
    conversation: Conversation, replies: Sequence[Reply], console: Console, raw: bool
) -> None:
    """Print answers side by side, or one below the other where there is no room."""
    if not replies:
        return
    heads = [Text(candidate.name, style="bold") for candidate in conversation.candidates]
    texts = [literal(reply.raw if raw else reply.text) for reply in replies]
    facts = [_facts(reply) for reply in replies]
    if console.width // len(replies) < NARROWEST:
        for parts in zip(heads, texts, facts, strict=True):
            console.print(*parts, "", sep="\n")
        return
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, ratio=1, overflow="fold")
    table.add_row(*texts)
    table.add_row(*facts)
    console.print(table, "", sep="\n")


def _facts(reply: Reply) -> Text:
    words = len(reply.text.split())
    facts = [f"{words} word{'s' * (words != 1)}", f"{reply.seconds:.1f} s"]
    if reply.contract != "valid":
        facts.append("not valid JSON")
    return Text(", ".join(facts), style="dim")


def _show_persona(persona: Sequence[str], owner: PersonaOf, console: Console) -> None:
    title = "Your persona:" if owner == "user" else "The models' persona:"
    console.print(literal("\n".join([title, *(f"- {line}" for line in persona)])))


def _show_prompt(conversation: Conversation, console: Console) -> None:
    if not conversation.last_prompt:
        console.print(Text("Nothing was asked yet."))
        return
    console.print(Text(f"{conversation.candidates[0].name} was asked:"))
    # unwrapped, because every line end would look like one of the prompt's own
    console.print(literal(conversation.last_prompt), soft_wrap=True)
