"""The backend `reference`: the data set's own answers, put into the JSON contract."""

from collections.abc import Sequence

from persodpo.config.models import ReferenceModel
from persodpo.prompts import wrap_response
from persodpo.records import Answer, Prompt


def read_reference(name: str, model: ReferenceModel, prompts: Sequence[Prompt]) -> list[Answer]:
    """Answer each prompt with its reference; no tokens are counted and no time is taken."""
    return [
        Answer(raw=wrap_response(prompt.reference), finish_reason="reference") for prompt in prompts
    ]
