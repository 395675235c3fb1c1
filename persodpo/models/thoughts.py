"""What a model thinks aloud before it answers, told apart from its answer.

Models that reason write their thoughts between tags, `<think>` and `</think>`, and answer
behind the last closing tag. Some chat templates write the opening tag into the prompt, so that the
text begins inside the thoughts. A draft in there, or the prompt quoted, is no answer.
"""

import json
import re
from typing import NamedTuple

_NAMES = r"(?:seed:)?think|thinking|thoughts?|reason|reasoning|reflection"
# Qwen, DeepSeek and most others; Magistral; Kimi; Command; gpt-oss, whose answer has a channel.
_OPENING = re.compile(
    rf"<(?:{_NAMES})(?:\s[^<>]*)?>|\[THINK\]|\u25c1think\u25b7|<\|START_THINKING\|>"
    r"|<\|channel\|>analysis<\|message\|>",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    rf"</(?:{_NAMES})>|\[/THINK\]|\u25c1/think\u25b7|<\|END_THINKING\|>"
    r"|<\|channel\|>final(?:\s[^<>]*)?<\|message\|>",
    re.IGNORECASE,
)
# What a tokenizer may have as a special token, which decoding would otherwise leave out.
TAG = re.compile(
    rf"{_OPENING.pattern}|{_CLOSING.pattern}|<\|channel\|>|<\|message\|>", re.IGNORECASE
)
_OBJECT = re.compile(r'\{\s*"')
_decoder = json.JSONDecoder()


class Parts(NamedTuple):
    """A text taken apart: the answer, and the thoughts (None if there are none)."""

    answer: str
    thoughts: str | None


def split_thoughts(text: str, opened: bool = False) -> Parts:
    """Take a model's thoughts out of its text.

    Thoughts are all that stands before the last closing tag, and what follows an opening tag
    without a closing one, as when the tokens ran out. A tag inside a JSON object that is complete
    and begins behind the thoughts is part of an answer.

    Args:
        text: Whatever a model wrote.
        opened: Whether the prompt ended inside the thoughts (see `opens_thoughts`).
    """
    begin = 0
    for tag in _CLOSING.finditer(text):
        if not _is_in_object(text, begin, tag):
            begin = tag.end()
    if opened and not begin:
        return Parts("", text or None)
    openings = _OPENING.finditer(text, begin)
    end = next((t.start() for t in openings if not _is_in_object(text, begin, t)), len(text))
    return Parts(text[begin:end], (text[:begin] + text[end:]) or None)


def _is_in_object(text: str, begin: int, tag: re.Match[str]) -> bool:
    """Whether a tag stands in a complete JSON object that begins at some place or behind it."""
    brace = _OBJECT.search(text, begin, tag.start())
    while brace:
        try:
            end = _decoder.raw_decode(text, brace.start())[1]
        except (ValueError, RecursionError):
            end = brace.end()
        if end >= tag.end():
            return True
        brace = _OBJECT.search(text, end, tag.start())
    return False


def opens_thoughts(prompt: str) -> bool:
    """Tell whether a rendered prompt ends inside thoughts, by the template's own opening tag."""
    # a tag inside the user's message isn't the template's: only what ends the prompt counts
    tail = prompt.rstrip()
    return any(opening.end() == len(tail) for opening in _OPENING.finditer(tail))
