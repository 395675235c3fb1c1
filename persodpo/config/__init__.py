"""The settings: params.yaml read and checked, and dvc.yaml kept in step with it.

In: params.yaml, dvc.yaml, profiles/. Out: checked sections.

    sections.py     how strictly every section is checked; one module per section beside it:
                    sample.py, generate.py, models.py, scorers.py, pair.py, train.py, evaluate.py
    reading.py      a file of parameters, or some of its sections; mistakes as one sentence
    params.py       the whole file, with what its sections must agree on
    checks.py       what every stage checks before it begins
    dvc_yaml.py     lists in dvc.yaml that follow params.yaml and the imports
    profiles.py     other set-ups in the place of params.yaml
    yaml12.py       YAML as DVC writes it

A stage reads its own sections by `read_params`, so that the schema of another section is none
of its dependencies.
"""

from persodpo.config.reading import read_params
from persodpo.config.sections import StageParams

__all__ = ["StageParams", "read_params"]
