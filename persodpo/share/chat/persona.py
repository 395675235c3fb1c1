"""The persona in the conversation, the user's or the models': typed, or picked from the data."""

import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.text import Text

from persodpo.errors import UserError
from persodpo.prompts import PersonaOf
from persodpo.records import Prompt, read_rows
from persodpo.runner import ARTIFACTS
from persodpo.share.chat.literal import literal

LISTED = 5  # so many prompts are named where one can be chosen

Read = Callable[[], str]


def choose_persona(
    persona: Sequence[str], like: str | None, read: Read, console: Console, owner: PersonaOf
) -> list[str]:
    """The sentences about the speaker who has the persona: given, another's, or asked for.

    Raises:
        UserError: Both are given, a sentence is empty, there is no prompt of that id, or neither is
            given and there is no terminal.
    """
    if persona and like is not None:
        raise UserError("--persona and --like: both give a persona; take one of them.")
    if persona:
        sentences = [sentence.strip() for sentence in persona]
        if not all(sentences):
            raise UserError("--persona: a sentence is empty; write one, such as I like castles.")
        return sentences
    if like is not None:
        return _find_prompt(like).persona
    if not sys.stdin.isatty():
        raise UserError(
            "standard input is no terminal at which a persona could be asked for; give one by "
            "--persona, or --like with a prompt's id."
        )
    return _ask_persona(read, console, owner)


def _find_prompt(identifier: str) -> Prompt:
    ids: list[str] = []
    for split in ("valid", "train"):
        for prompt in read_rows(ARTIFACTS / f"prompts/{split}.jsonl", Prompt):
            if prompt.id == identifier:
                return prompt
            ids.append(prompt.id)
    raise UserError(
        f"--like {identifier}: neither sample has a prompt of that id; {len(ids)} have others, "
        f"such as {', '.join(ids[:LISTED])}."
    )


def _ask_persona(read: Read, console: Console, owner: PersonaOf) -> list[str]:
    """Let the user pick the persona of a validation prompt, or type one."""
    who, about = ("you", "yourself") if owner == "user" else ("the models", "them")
    prompts = read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt)[:LISTED]
    offered = {str(number): prompt for number, prompt in enumerate(prompts, start=1)}
    console.print(Text(f"Whose persona do {who} take?"))
    for number, prompt in offered.items():
        offer = literal(f"  {number}  {prompt.id}: {' '.join(prompt.persona[:2])}")
        console.print(offer, no_wrap=True, overflow="ellipsis")
    console.print(
        Text(f"Type a number, or sentences about {about}, one per line and then an empty line.")
    )
    sentences: list[str] = []
    while line := read():
        if sentences or not line.isdecimal():
            sentences.append(line)
        elif line in offered:
            return offered[line].persona
        else:
            console.print(Text(f"Take a number from 1 to {len(prompts)}."))
    return sentences or _ask_persona(read, console, owner)
