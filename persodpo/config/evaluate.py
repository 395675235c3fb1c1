"""The section `evaluate` of `params.yaml`: who is compared with the trained methods.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/evaluation.md.
"""

from typing import Annotated

from pydantic import Field

from persodpo.config.sections import Key, Section


class EvaluateParams(Section):
    """Who is compared with the trained methods on the validation prompts."""

    baselines: Annotated[dict[Key, Key], Field(min_length=1)]
    equivalence: Annotated[float, Field(ge=0, le=1)]
