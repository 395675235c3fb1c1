r"""What a model is asked, and the JSON contract that its answer must keep.

The prompt has the parts that the paper names (sections 3.1 and 4): the persona, the dialogue
so far, the instructions, and the format of the answer, a JSON object with the
one field "response". The wording is this project's own. The dialogue's speakers
are User1 (the human) and User2 (the machine), as in the published prompts; the
persona is the human's in FoCUS, and the machine's own in other data sets.

The contract, by the rule `strict`: somewhere in the text stands a JSON object whose
only field is "response", a text that isn't blank and isn't the "..." that the prompt itself
shows. What stands around it (prose, code fences) is passed over. The rule `released` is that of
the paper's code (docs/generation.md says where they differ). An answer that keeps the contract is
`valid`; where one can be made out although the contract is broken, it is
`salvaged`; else there is `none`. `parse_response` never raises, whatever a model
says.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

ContractRule = Literal["strict", "released"]
ContractResult = Literal["valid", "salvaged", "none"]
# Whose persona it is: that of the human, as in FoCUS, or that of the machine, as in ConvAI2.
PersonaOf = Literal["user", "machine"]


_decoder = json.JSONDecoder()
_OBJECT = re.compile(r'\{\s*["}]')
_CLOSING = re.compile(r'"\s*[,}]')
_FIELD = re.compile(r'"response"\s*:\s*"')
# What the prompt shows in the place of an answer; a model that repeats it has said nothing.
PLACEHOLDER = "..."


class ParsedResponse(NamedTuple):
    """What the contract makes of a raw answer; `answer` is None if the result is `none`."""

    contract: ContractResult
    answer: str | None


# What the prompt calls the user and the machine.
SPEAKERS = ("User1", "User2")


def render_prompt(
    persona: Sequence[str], turns: Sequence[str], max_words: int, persona_of: PersonaOf = "user"
) -> str:
    """Write the prompt for one dialogue.

    Args:
        persona: Sentences about a speaker; empty leaves the persona out of the prompt.
        turns: All turns so far, User1 first and last.
        max_words: The most words the answer may have.
        persona_of: The speaker.

    Returns:
        The text of the user message; the model's chat template comes around it.
    """
    dialogue = "\n".join(f"{SPEAKERS[i % 2]}: {turn}" for i, turn in enumerate(turns))
    task = "You are User2 in a conversation with User1. "
    task += f"Answer User1's last message in at most {max_words} words"
    facts = "".join(f"\n- {sentence}" for sentence in persona)
    use = "make use of User1's persona"
    if persona_of == "machine":
        use = "keep to your own persona"
    parts = [
        f"{task}, and {use}." if persona else f"{task}.",
        *([f"Persona of {speaker(persona_of)}:{facts}"] if persona else []),
        f"Conversation:\n{dialogue}",
        'Return your answer as a JSON object with the single field "response", a string: '
        + wrap_response(PLACEHOLDER),
    ]
    return "\n\n".join(parts)


def speaker(persona_of: PersonaOf) -> str:
    """What the prompt calls the speaker who has the persona."""
    return SPEAKERS[persona_of == "machine"]


def wrap_response(text: str) -> str:
    """Put an answer into the JSON contract."""
    return json.dumps({"response": text}, ensure_ascii=False)


def parse_response(raw: str, rule: ContractRule = "strict") -> ParsedResponse:
    """Take the answer out of the JSON contract.

    Args:
        raw: Whatever a model said.
        rule: What counts as valid: `strict` or `released` (see above).

    Returns:
        The result and the answer, stripped of white space around it.
    """
    answer = _strict_answer(raw) if rule == "strict" else _released_answer(raw)
    if answer is not None:
        return ParsedResponse("valid", answer)
    salvaged = _salvage(raw, rule)
    return ParsedResponse("salvaged", salvaged) if salvaged else ParsedResponse("none", None)


def _strict_answer(raw: str) -> str | None:
    """The answer of the first object that keeps the contract."""
    for value in _complete_objects(raw):
        if value.keys() == {"response"}:
            answer = value["response"]
            if isinstance(answer, str) and _has_content(answer) and _is_unicode(answer):
                return answer.strip()
    return None


def _has_content(answer: str) -> bool:
    """Whether a text is more than white space and the prompt's own placeholder."""
    return bool(answer.strip().strip(".\u2026").strip())


def _released_answer(raw: str) -> str | None:
    """The answer by the paper's code, which wants less of the object.

    Of all blocks from an opening brace to the next closing one, the first that is JSON with a field
    "response" counts, whatever the field's type and whatever stands beside it.
    """
    for block in _shortest_blocks(raw):
        try:
            value = json.loads(block)
        except (ValueError, RecursionError):
            continue
        if "response" in value and _is_unicode(str(value["response"])):
            return str(value["response"]).strip()
    return None


def _shortest_blocks(raw: str) -> Iterator[str]:
    """What the expression `{.*?}` matches in a text, line feeds included, in linear time."""
    start = raw.find("{")
    while start >= 0:
        end = raw.find("}", start)
        if end < 0:
            return
        yield raw[start : end + 1]
        start = raw.find("{", end)


def _salvage(raw: str, rule: ContractRule) -> str:
    """What follows the field's opening quotation mark, without what is left of the JSON around it.

    The stripping is that of the paper's code: quotation marks, braces, white space, then dots.
    The rule `strict` also cuts the text where its closing quotation mark seems to be, and goes on
    to the next field where nothing is left, as of the prompt's placeholder.
    """
    if rule == "released":
        field = _FIELD.search(raw)
        return _bare(raw[field.end() :]) if field else ""
    fields = (_CLOSING.split(text, maxsplit=1)[0] for text in _FIELD.split(raw)[1:])
    return next(filter(_has_content, map(_bare, fields)), "")


def _bare(text: str) -> str:
    return text.strip('"\n{} ').rstrip(".").strip() if _is_unicode(text) else ""


def _complete_objects(raw: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects of a text, up to the first one that is open or broken.

    A brace without a quotation mark or a closing brace behind it is prose and is passed over. What
    stands inside an open or broken object is not an object of its own.
    """
    brace = _OBJECT.search(raw)
    while brace:
        try:
            value, end = _decoder.raw_decode(raw, brace.start())
        except (ValueError, RecursionError):
            return
        yield value
        brace = _OBJECT.search(raw, end)


def _is_unicode(text: str) -> bool:
    """Half a surrogate pair passes JSON's escapes but can't be stored as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
