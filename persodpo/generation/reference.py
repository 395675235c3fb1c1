"""The backend `reference`: the data set's own answers, put into the JSON contract."""

from collections.abc import Sequence

from persodpo.params import GenerateParams, ReferenceModel
from persodpo.prompts import wrap_response
from persodpo.records import Prompt, Response


def answer_with_reference(
    name: str,
    model: ReferenceModel,
    prompts: Sequence[Prompt],
    params: GenerateParams,
    max_words: int,
) -> list[Response]:
    """Answer each prompt with its reference; no tokens are counted and no time is taken."""
    return [
        Response(
            id=prompt.id,
            model=name,
            raw=wrap_response(prompt.reference),
            parsed=prompt.reference,
            words=len(prompt.reference.split()),
            seconds=0.0,
            prompt_tokens=0,
            completion_tokens=0,
            finish_reason="reference",
        )
        for prompt in prompts
    ]
