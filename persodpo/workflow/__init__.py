"""workflow: params.yaml as a whole, and dvc.yaml in step with it.

In: params.yaml, dvc.yaml, profiles/. Out: `Params`, dvc.yaml.

    params.py       the whole file, with what its sections must agree on
    checks.py       what every stage checks before it begins
    dvc_yaml.py     lists in dvc.yaml that follow params.yaml and the imports
    profiles.py     other set-ups in the place of params.yaml

It stands behind the stages in the flow, since it knows all their sections; no stage but the
report depends on it.
"""

from persodpo.workflow.dvc_yaml import synchronise_files
from persodpo.workflow.params import Params, load_params
from persodpo.workflow.profiles import apply_profile

__all__ = ["Params", "apply_profile", "load_params", "synchronise_files"]
