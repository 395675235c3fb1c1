"""What every stage checks before it begins: the whole of params.yaml, and dvc.yaml's lists.

A check can end a stage and change no result. So `persodpo.runner` imports this module by its
name, and it is no dependency of a stage: a new rule or another message re-runs nothing.
"""

from persodpo.workflow.dvc_yaml import GATHERING, refuse_stale_lists
from persodpo.workflow.params import load_params


def check_workflow(stage: str) -> None:
    """Check the parameters, and for a stage that gathers files its list in dvc.yaml.

    Args:
        stage: The stage's script in `stages/`.

    Raises:
        UserError: See `load_params` and `refuse_stale_lists`.
    """
    params = load_params()
    if stage in GATHERING:
        refuse_stale_lists(stage, params)
