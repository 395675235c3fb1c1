"""The section `score` of `params.yaml`: how answers are scored, whatever the metrics.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/metrics.md.
"""

from pydantic import PositiveInt

from persodpo.config.sections import Section


class ScoreParams(Section):
    """How answers are scored."""

    batch_tokens: PositiveInt
