r"""What a model is asked, and the JSON contract that its answer must keep.

The prompt has the parts of the paper's (section 3.1): the persona, the dialogue
so far, the instructions, and the format of the answer, a JSON object with the
one field "response". The wording is this project's own. The dialogue's speakers
are User1 (the human with the persona) and User2 (the machine), as in the
published prompts.

The contract, by the rule `strict`: somewhere in the text stands a JSON object whose
only field is "response", a text that isn't blank. What stands around it (prose,
code fences) is passed over. The rule `released` is that of the paper's code
(docs/generation.md says where they differ). An answer that keeps the contract is
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

# Part of every request's key: raise it when an answer may come out differently for the same
# messages, as when generation stops at another place.
CONTRACT_VERSION = 1

_decoder = json.JSONDecoder()
_OBJECT = re.compile(r'\{\s*["}]')
_CLOSING = re.compile(r'"\s*[,}]')
_FIELD = re.compile(r'"response"\s*:\s*"')


class ParsedResponse(NamedTuple):
    """What the contract makes of a raw answer; `answer` is None if the result is `none`."""

    contract: ContractResult
    answer: str | None


def render_prompt(persona: Sequence[str], turns: Sequence[str], max_words: int) -> str:
    """Write the prompt for one dialogue.

    Args:
        persona: Sentences about User1; empty leaves the persona out of the prompt.
        turns: All turns so far, User1 first and last.
        max_words: The most words the answer may have.

    Returns:
        The text of the user message; the model's chat template comes around it.
    """
    speakers = ("User1", "User2")
    dialogue = "\n".join(f"{speakers[i % 2]}: {turn}" for i, turn in enumerate(turns))
    task = "You are User2 in a conversation with User1. "
    task += f"Answer User1's last message in at most {max_words} words"
    facts = "".join(f"\n- {sentence}" for sentence in persona)
    parts = [
        f"{task}, and make use of User1's persona." if persona else f"{task}.",
        *([f"Persona of User1:{facts}"] if persona else []),
        f"Conversation:\n{dialogue}",
        'Return your answer as a JSON object with the single field "response", a string: '
        '{"response": "..."}',
    ]
    return "\n\n".join(parts)


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
            if isinstance(answer, str) and answer.strip() and _is_unicode(answer):
                return answer.strip()
    return None


def _released_answer(raw: str) -> str | None:
    """The answer by the paper's code, which wants less of the object.

    From the first brace to the next closing one stands JSON with a field "response", whatever
    its type and whatever stands beside it.
    """
    start = raw.find("{")
    end = raw.find("}", start)
    if start < 0 or end < 0:
        return None
    try:
        value = json.loads(raw[start : end + 1])
    except (ValueError, RecursionError):
        return None
    answer = value.get("response")
    if "response" not in value or not _is_unicode(str(answer)):
        return None
    return str(answer).strip()


def _salvage(raw: str, rule: ContractRule) -> str:
    """What follows the field's opening quotation mark, without what is left of the JSON around it.

    The stripping is that of the paper's code: quotation marks, braces, white space, then dots.
    The rule `strict` also cuts the text where its closing quotation mark seems to be.
    """
    field = _FIELD.search(raw)
    text = raw[field.end() :] if field else ""
    if rule == "strict":
        text = _CLOSING.split(text, maxsplit=1)[0]
    return text.strip('"\n{} ').rstrip(".").strip() if _is_unicode(text) else ""


def object_is_closed(raw: str) -> bool:
    """Tell whether a text holds a complete JSON object, so that generation can stop."""
    return next(_complete_objects(raw), None) is not None


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
