"""config: sections of params.yaml, read and checked.

In: params.yaml. Out: checked sections.

    sections.py     how strictly every section is checked; one module per section beside it:
                    sample.py, generate.py, models.py, score.py, pair.py, train.py, evaluate.py,
                    report.py
                    (that of scorers is in persodpo.score, beside the metrics)
    reading.py      a file of parameters, or some of its sections; mistakes as one sentence
    yaml12.py       YAML as DVC writes it

A stage reads its own sections by `read_params`, so that the schema of another section is none
of its dependencies.
"""

from persodpo.config.reading import read_params
from persodpo.config.sections import StageParams

__all__ = ["StageParams", "read_params"]
