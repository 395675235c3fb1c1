"""Profiles: whole files of parameters for other set-ups than the embedded default.

A profile is a params.yaml of its own in `profiles/`. Where it says `$logs/`, files are
meant that the paper's authors published; the user names the folder they lie in. In a
clone of the authors' repository they have other names than here, and the metric values
are Excel files; all names are looked for.
"""

import json
import re
import subprocess
from pathlib import Path

from persodpo.config.reading import PARAMS_FILE
from persodpo.errors import UserError
from persodpo.records import write_text
from persodpo.workflow.dvc_yaml import DVC_FILE, synchronise_files
from persodpo.workflow.params import load_params

PROFILES = Path("profiles")
# A published file's name here, and in the authors' repository (salehafzoon/PersoDPO).
AUTHORS_NAMES = (
    (r"prompts/train\.csv", "Prompts/FoCus-train.csv"),
    (r"prompts/valid\.csv", "Prompts/FoCus-valid.csv"),
    # as older commits name it
    (r"prompts/valid\.csv", "Prompts/FoCus.csv"),
    (r"responses/(.+)\.csv", r"Raw Responses/FoCus/\1-train.csv"),
    (r"metrics/(.+)\.csv", r"Metrics Results/FoCus/\1-train-results.xlsx"),
    (r"valid_responses/(.+)\.csv", r"Raw Responses/FoCus/\1.csv"),
    # what the untrained model said there is published without the JSON around it alone
    (r"valid_responses/(.+)\.csv", r"Responses/FoCus/\1.csv"),
    (r"valid_metrics/(.+)\.csv", r"Metrics Results/FoCus/\1-results.xlsx"),
)


def apply_profile(name: str, logs: Path | None, force: bool) -> None:
    """Put a profile in the place of params.yaml, and bring dvc.yaml in step.

    Args:
        name: The profile's file in `profiles/`, without its suffix.
        logs: The folder of the published files; None if the profile needs none.
        force: Overwrite changes that aren't committed.

    Raises:
        UserError: There is no such profile, its parameters are wrong, a published file is
            missing, or changes would be lost.
    """
    text = profile_text(name, logs)
    load_params(_file(name))
    if not force:
        _refuse_uncommitted_changes()
    write_text(PARAMS_FILE, text)
    synchronise_files()


def profile_text(name: str, logs: Path | None) -> str:
    """A profile with the paths of the published files put in.

    Args:
        name: See `apply_profile`.
        logs: See there.

    Raises:
        UserError: There is no such profile, or a published file is missing.
    """
    path = _file(name)
    names = sorted(file.stem for file in PROFILES.glob("*.yaml"))
    if name not in names:
        raise UserError(f"{path}: there is no such profile; there are {', '.join(names)}.")
    text = path.read_text(encoding="utf-8")
    if "$logs/" not in text:
        if logs is not None:
            raise UserError(f"{path}: it needs no published files; leave --logs out.")
        return text
    if logs is None:
        raise UserError(
            f"{path}: it needs the files that the paper's authors published; clone their "
            "repository and name its folder with --logs."
        )
    return re.sub(r": \$logs/(\S+)", lambda match: f": {_quoted(_published(logs, match[1]))}", text)


def _quoted(path: str) -> str:
    """A text in YAML: JSON's quotation marks keep whatever a folder's name has."""
    return json.dumps(path, ensure_ascii=False)


def _file(name: str) -> Path:
    return PROFILES / f"{name}.yaml"


def _published(logs: Path, name: str) -> str:
    """The path of a published file, under its name here or in the authors' repository."""
    names = [name]
    names += [
        re.sub(pattern, replacement, name)
        for pattern, replacement in AUTHORS_NAMES
        if re.fullmatch(pattern, name)
    ]
    for file in names:
        if (logs / file).is_file():
            return (logs / file).as_posix()
    raise UserError(
        f"{logs}: it has neither {' nor '.join(names)}; name the folder of a clone of the "
        "paper's repository."
    )


def _refuse_uncommitted_changes() -> None:
    files = [str(PARAMS_FILE), str(DVC_FILE)]
    command = ["git", "status", "--porcelain", "--", *files]
    try:
        status = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"git can't tell whether {' or '.join(files)} has changes that would be lost "
            f"({error}); say --force to overwrite them."
        ) from error
    if status.stdout:
        raise UserError(
            f"{' or '.join(files)} has changes that aren't committed and would be lost; commit "
            "them, or say --force."
        )
