"""The section `audit` of `params.yaml`: what the metrics are asked.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/audit.md.
"""

from pydantic import PositiveInt

from persodpo.config.sections import Section, Seed, Text


class AuditParams(Section):
    """What the metrics are asked."""

    others: PositiveInt
    opposites: Text | None
    seed: Seed
