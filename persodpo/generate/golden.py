"""The backend `golden`: the data set's own answers, put into the JSON contract."""

from collections.abc import Sequence

from persodpo.prompts import wrap_response
from persodpo.records import Answer, Prompt


def read_golden(prompts: Sequence[Prompt]) -> list[Answer]:
    """Answer each prompt with its golden answer; no tokens are counted and no time is taken."""
    return [
        Answer(raw=wrap_response(prompt.golden_answer), finish_reason="golden")
        for prompt in prompts
    ]
