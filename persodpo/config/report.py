"""The section `report` of `params.yaml`: what the results show.

Every key is mandatory; its meaning is explained where its value stands, in
`params.yaml` or docs/evaluation.md.
"""

from persodpo.config.sections import Section


class ReportParams(Section):
    """What the results show."""

    texts: bool
