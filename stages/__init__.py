"""The stages of the workflow, one thin script each, run as `python -m stages.<name>`."""
