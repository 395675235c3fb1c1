r"""What a model is asked, and the JSON contract that its answer must keep.

The prompt has the parts of the paper's (section 3.1): the persona, the dialogue
so far, the instructions, and the format of the answer, a JSON object with the
one field "response". The wording is this project's own. The dialogue's speakers
are User1 (the human with the persona) and User2 (the machine), as in the
published prompts.

The contract: somewhere in the text stands a JSON object whose only field is
"response", a text that isn't blank. What stands around it (prose, code fences)
is passed over. `parse_response` never raises, whatever a model says.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

_decoder = json.JSONDecoder()
_OBJECT = re.compile(r'\{\s*"')


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


def parse_response(raw: str) -> str | None:
    """Take the answer out of the JSON contract.

    Args:
        raw: Whatever a model said.

    Returns:
        The stripped answer of the first object that keeps the contract, or None
        if there is none.
    """
    for value in _complete_objects(raw):
        if value.keys() == {"response"}:
            answer = value["response"]
            if isinstance(answer, str) and answer.strip() and _is_unicode(answer):
                return answer.strip()
    return None


def object_is_closed(raw: str) -> bool:
    """Tell whether a text holds a complete JSON object, so that generation can stop."""
    return next(_complete_objects(raw), None) is not None


def _complete_objects(raw: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects of a text, up to the first one that is open or broken.

    A brace without a quotation mark behind it is prose and is passed over. What
    stands inside an open or broken object is not an object of its own.
    """
    start = raw.find("{")
    while start >= 0:
        try:
            value, end = _decoder.raw_decode(raw, start)
            yield value
        except (ValueError, RecursionError):
            if _OBJECT.match(raw, start):
                return
            end = start + 1
        start = raw.find("{", end)


def _is_unicode(text: str) -> bool:
    """Half a surrogate pair passes JSON's escapes but can't be stored as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
