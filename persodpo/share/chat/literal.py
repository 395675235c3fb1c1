"""Texts of users and models at the terminal, shown as they are."""

from rich.text import Text

# What would move the cursor or change colours, if a model or a user wrote it, is made visible.
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_VISIBLE |= dict.fromkeys(range(0x7F, 0xA0), 0xFFFD)


def literal(text: str) -> Text:
    """A text that nothing is read into: no markup, no control characters."""
    return Text(text.translate(_VISIBLE))
