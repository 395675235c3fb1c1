"""What a model thinks aloud before it answers, told apart from its answer.

Models that reason write their thoughts between tags, `<think>` and `</think>`, and answer
behind the last closing tag. Some chat templates write the opening tag into the prompt, so that the
text begins inside the thoughts. A draft in there, or the prompt quoted, is no answer.
"""

import json
import re
from typing import NamedTuple

# <think> is the usual tag; Magistral writes [THINK].
_NAMES = r"think|thinking|thought|thoughts|reasoning"
_OPENING = re.compile(rf"<(?:{_NAMES})>|\[THINK\]", re.IGNORECASE)
_CLOSING = re.compile(rf"</(?:{_NAMES})>|\[/THINK\]", re.IGNORECASE)
# What a tokenizer may have as a special token, which decoding would otherwise leave out.
TAG = re.compile(rf"</?(?:{_NAMES})>|\[/?THINK\]", re.IGNORECASE)


class Parts(NamedTuple):
    """A text taken apart: the answer, and the thoughts (None if there are none)."""

    answer: str
    thoughts: str | None


def split_thoughts(text: str, opened: bool = False) -> Parts:
    """Take a model's thoughts out of its text.

    Thoughts are all that stands before the last closing tag, and what follows an opening tag
    without a closing one, as when the tokens ran out. A tag inside a JSON object with which the
    text begins is part of an answer.

    Args:
        text: Whatever a model wrote.
        opened: Whether the prompt ended inside the thoughts (see `opens_thoughts`).
    """
    inside = _leading_object(text)
    closings = [tag for tag in _CLOSING.finditer(text) if tag.start() >= inside]
    begin = closings[-1].end() if closings else 0
    if opened and not closings:
        return Parts("", text)
    opening = _OPENING.search(text, max(begin, inside))
    end = opening.start() if opening else len(text)
    return Parts(text[begin:end], (text[:begin] + text[end:]) or None)


def opens_thoughts(prompt: str) -> bool:
    """Tell whether a rendered prompt ends inside thoughts, by the template's own opening tag."""
    # a tag inside the user's message isn't the template's: only what ends the prompt counts
    tail = prompt.rstrip()
    return any(opening.end() == len(tail) for opening in _OPENING.finditer(tail))


def _leading_object(text: str) -> int:
    """Where a JSON object ends with which the text begins; 0 if it doesn't begin with one."""
    start = len(text) - len(text.lstrip())
    if not text.startswith("{", start):
        return 0
    try:
        return json.JSONDecoder().raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return 0
