"""A talk at the terminal with the base and the trained methods: python -m persodpo chat.

What the user types are the turns of User1, who has the persona. Each candidate answers them as
User2, with its own earlier answers in its prompt. Prompt, decoding and contract are those of the
evaluation, so a candidate says here what it would say there. Nothing is kept.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel
from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from persodpo.errors import UserError
from persodpo.export import _is_adapter
from persodpo.generation.local import answer_requests
from persodpo.generation.request import Message, Request
from persodpo.models import fast_dtype, load_causal_lm, load_tokenizer
from persodpo.params import Params, load_params
from persodpo.prompts import ContractResult, parse_response, render_prompt
from persodpo.records import Answer, Prompt, read_rows
from persodpo.stage import ARTIFACTS

BASE = "base"
LISTED = 5  # so many prompts are named where one can be chosen
NARROWEST = 30  # columns of a candidate; with fewer, answers stand one below the other
HELP = """\
/raw      show the texts as the models gave them, or the answers again
/prompt   show what was last asked, to the letter
/persona  show the persona
/new      forget the conversation
/help     show this
/quit     end, as Ctrl-D and Ctrl-C do"""

# What would move the cursor or change colours, if a model or a user wrote it, is made visible.
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_VISIBLE |= dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)

Read = Callable[[], str]


class TooLongError(Exception):
    """A message that some candidate can't read, even without what was said before."""


class Reply(NamedTuple):
    """What a candidate said, raw and as it was understood (of no answer, the raw text)."""

    raw: str
    contract: ContractResult
    text: str
    seconds: float


@dataclass
class Candidate:
    """A model that is talked to, and its own view of the conversation.

    Attributes:
        name: `base`, or a key of `train.methods`.
        weights: Its weights; the base and all adapters share the base's.
        adapters: The shared weights' adapters; None if there are none.
        adapter: Its own among these; None for the base.
        turns: What the user and this candidate said, the user first.
    """

    name: str
    weights: PreTrainedModel
    adapters: PeftModel | None = None
    adapter: str | None = None
    turns: list[str] = field(default_factory=list)

    def active(self) -> AbstractContextManager[Any]:
        """The context in which the weights are this candidate's."""
        if self.adapters is None:
            return nullcontext()
        if self.adapter is None:
            disabled: AbstractContextManager[Any] = self.adapters.disable_adapter()
            return disabled
        self.adapters.set_adapter(self.adapter)
        return nullcontext()


class Conversation:
    """What the user says to all candidates under one persona.

    Args:
        candidates: Whom, at least one.
        tokenizer: The tokenizer that they share.
        persona: Sentences about the user.
        params: All parameters.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        tokenizer: PreTrainedTokenizerBase,
        persona: Sequence[str],
        params: Params,
    ) -> None:
        self.candidates = candidates
        self.tokenizer = tokenizer
        self.persona = persona
        self.params = params
        self.forget()

    def forget(self) -> None:
        """Begin anew, under the same persona."""
        for candidate in self.candidates:
            candidate.turns.clear()
        self.asked = ""
        """The text that the first candidate was last asked, the chat template around it."""
        self.shortened: set[str] = set()
        """Names of the candidates that can't read the whole conversation any more."""

    def say(self, text: str) -> Iterator[Reply]:
        """Let the candidates answer a turn, one after the other.

        Raises:
            TooLongError: A candidate can't read it; then none is asked.
        """
        requests = [self.request(candidate, text) for candidate in self.candidates]
        self.asked = self._with_template(requests[0])
        for candidate, request in zip(self.candidates, requests, strict=True):
            reply = self._answer(candidate, request)
            candidate.turns += [text, reply.text]
            yield reply

    def request(self, candidate: Candidate, text: str) -> Request:
        """What a candidate is asked; without the oldest turns, two at a time, where all won't fit.

        As in the training, the user still speaks first then, and the persona stays.
        """
        model, generate = self.params.trained_model(), self.params.generate
        config = candidate.weights.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        persona = self.persona if model.persona else []
        turns, length = [*candidate.turns, text], 0
        for first in range(0, len(turns), 2):
            content = render_prompt(persona, turns[first:], self.params.sample.max_words)
            # No hashes of weights: they matter to the cache of answers only, and take long.
            request = Request(
                provider="transformers",
                messages=(Message(role="user", content=content),),
                max_tokens=generate.max_tokens,
                temperature=model.temperature,
                top_p=model.top_p,
                seed=model.seed,
            )
            tokens = self.tokenizer(self._with_template(request), add_special_tokens=False)
            length = len(tokens["input_ids"]) + generate.max_tokens
            if limit is None or length <= limit:
                if first:
                    self.shortened.add(candidate.name)
                return request
        raise TooLongError(
            f"This has {length} tokens with the persona and room for an answer, and "
            f"{candidate.name} reads no more than {limit}; say it shorter."
        )

    def _with_template(self, request: Request) -> str:
        messages = [message.model_dump() for message in request.messages]
        return str(
            self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        )

    def _answer(self, candidate: Candidate, request: Request) -> Reply:
        answers: list[Answer] = []
        with candidate.active():
            answer_requests(
                candidate.weights, self.tokenizer, [request], 1, lambda _, a: answers.append(a)
            )
        raw, seconds = answers[0].raw, answers[0].seconds
        assert seconds is not None  # only a backend that calls no model leaves it out
        contract, answer = parse_response(raw, self.params.generate.contract)
        return Reply(raw, contract, raw if answer is None else answer, seconds)


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
    policies = _policies(chosen, params)
    try:
        sentences = _persona(persona, like, console)
        _show_persona(sentences, console)
        candidates, tokenizer = load_candidates(policies, params)
        console.print(Text(f"With you: {', '.join(policies)}. Commands: /help"))
        if not params.trained_model().persona:
            console.print(
                Text(f"None is told the persona: models.{params.train.model}.persona is false.")
            )
        talk(Conversation(candidates, tokenizer, sentences, params), console, _read, raw)
    except (EOFError, KeyboardInterrupt):
        if sys.stdin.isatty():
            console.print()  # the shell's prompt gets a line of its own


def talk(conversation: Conversation, console: Console, read: Read, raw: bool) -> None:
    """Answer the user's lines until `/quit`; `read` gives the next one, or raises EOFError."""
    replies: list[Reply] = []
    told = False
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
                _show_persona(conversation.persona, console)
            case "/prompt":
                _show_prompt(conversation, console)
            case "/new":
                conversation.forget()
                replies, told = [], False
                console.print(Text("The conversation is forgotten."))
            case "/raw":
                raw = not raw
                console.print(Text("Raw texts are shown." if raw else "Answers are shown."))
                _show_replies(conversation, replies, console, raw)
            case _ if line.startswith("/"):
                console.print(_text(f"There is no command {line}; /help lists them."))
            case _:
                try:
                    replies = _replies(conversation, line, console)
                except TooLongError as error:
                    console.print(Text(str(error)))
                    continue
                if conversation.shortened and not told:
                    names = ", ".join(c.name for c in conversation.candidates
                                      if c.name in conversation.shortened)  # fmt: skip
                    console.print(
                        Text(f"From now on the oldest turns are left out for {names}: too long.")
                    )
                    told = True
                _show_replies(conversation, replies, console, raw)


def load_candidates(
    policies: dict[str, bool], params: Params
) -> tuple[list[Candidate], PreTrainedTokenizerBase]:
    """Load the weights: the base's once for itself and all adapters, whole models by themselves.

    Args:
        policies: The candidates' names, and whether each is the base or an adapter on it.
        params: All parameters.

    Returns:
        The candidates in the same order, and the tokenizer, which is the base's for all.
    """
    base, key = params.trained_model(), f"params.yaml: models.{params.train.model}.model"
    where, dtype = (base.model, base.revision, key), fast_dtype(params.generate.dtype)
    shared = load_causal_lm(*where, dtype) if any(policies.values()) else None
    candidates: list[Candidate] = []
    adapters: PeftModel | None = None
    # The evaluation merges an adapter into the weights; here it stays beside them, so that several
    # can share them. The sums are then rounded in another order, and may differ in the last bits.
    for number, (name, on_base) in enumerate(policies.items()):
        folder = str(_policy(name))
        if name == BASE:
            candidates.append(Candidate(name, shared))
        elif not on_base:
            candidates.append(Candidate(name, load_causal_lm(folder, None, folder, dtype)))
        else:
            adapter = str(number)  # peft and torch don't take every name
            if adapters is None:
                adapters = PeftModel.from_pretrained(shared, folder, adapter_name=adapter)
            else:
                adapters.load_adapter(folder, adapter_name=adapter)
            # peft has put its layers into the shared model itself
            candidates.append(Candidate(name, shared, adapter=adapter))
    for candidate in candidates:
        if candidate.weights is shared:
            candidate.adapters = adapters
    return candidates, load_tokenizer(*where)


def _policies(chosen: Sequence[str], params: Params) -> dict[str, bool]:
    """Whom to talk to, in the order of the results, and whether each needs the base's weights."""
    names = [BASE, *params.train.methods]
    for name in chosen:
        if name not in names:
            raise UserError(f"--with {name}: there is no such model; choose of {', '.join(names)}.")
    policies = {}
    for name in names:
        if chosen and name not in chosen:
            continue
        try:
            policies[name] = name == BASE or _is_adapter(_policy(name), name, params)
        except UserError as error:
            if chosen:
                raise
            sys.stderr.write(f"{name} is left out: {error}\n")
    return policies


def _policy(method: str) -> Path:
    return ARTIFACTS / f"policies/{method}"


def _persona(persona: Sequence[str], like: str | None, console: Console) -> list[str]:
    """The sentences about the user: given, another's, or asked for."""
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
    return _ask_persona(console)


def _find_prompt(identifier: str) -> Prompt:
    known: list[str] = []
    for split in ("valid", "train"):
        for prompt in read_rows(ARTIFACTS / f"prompts/{split}.jsonl", Prompt):
            if prompt.id == identifier:
                return prompt
            known.append(prompt.id)
    raise UserError(
        f"--like {identifier}: neither sample has a prompt of that id; {len(known)} have others, "
        f"such as {', '.join(known[:LISTED])}."
    )


def _ask_persona(console: Console) -> list[str]:
    """Let the user pick the persona of a validation prompt, or type one."""
    prompts = read_rows(ARTIFACTS / "prompts/valid.jsonl", Prompt)[:LISTED]
    offered = {str(number): prompt for number, prompt in enumerate(prompts, start=1)}
    console.print(Text("Whose persona do you take?"))
    for number, prompt in offered.items():
        offer = _text(f"  {number}  {prompt.id}: {' '.join(prompt.persona[:2])}")
        console.print(offer, no_wrap=True, overflow="ellipsis")
    console.print(
        Text("Type a number, or sentences about yourself, one per line and then an empty line.")
    )
    sentences: list[str] = []
    while line := _read():
        if sentences or not line.isdecimal():
            sentences.append(line)
        elif line in offered:
            return offered[line].persona
        else:
            console.print(Text(f"Take a number from 1 to {len(prompts)}."))
    return sentences or _ask_persona(console)


def _read() -> str:
    """The user's next line."""
    return input("> " if sys.stdin.isatty() else "").strip()


def _replies(conversation: Conversation, text: str, console: Console) -> list[Reply]:
    """All answers to a turn; at a terminal it is shown that they are on their way."""
    with console.status(Text("The answers are being written.")):
        return list(conversation.say(text))


def _show_replies(
    conversation: Conversation, replies: Sequence[Reply], console: Console, raw: bool
) -> None:
    """Print answers side by side, or one below the other where there is no room."""
    if not replies:
        return
    heads = [Text(candidate.name, style="bold") for candidate in conversation.candidates]
    texts = [_text(reply.raw if raw else reply.text) for reply in replies]
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


def _show_persona(persona: Sequence[str], console: Console) -> None:
    console.print(_text("\n".join(["Your persona:", *(f"- {line}" for line in persona)])))


def _show_prompt(conversation: Conversation, console: Console) -> None:
    if not conversation.asked:
        console.print(Text("Nothing was asked yet."))
        return
    console.print(Text(f"{conversation.candidates[0].name} was asked:"))
    # unwrapped, because every line end would look like one of the prompt's own
    console.print(_text(conversation.asked), soft_wrap=True)


def _text(text: str) -> Text:
    """A text that nothing is read into: no markup, no control characters."""
    return Text(text.translate(_VISIBLE))
