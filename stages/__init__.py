"""The stages of the workflow, one thin script each; dvc.yaml runs them by `python -m stages.<name>`."""
