"""Bring an exported folder to the Hugging Face hub, for those who have a token there."""

from pathlib import Path

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public

from persodpo.errors import UserError


def list_upload(folder: Path) -> list[tuple[str, int]]:
    """The files that an upload would take, with their sizes in bytes."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(file.relative_to(folder).as_posix(), file.stat().st_size) for file in files]


def refuse_repo(repo: str) -> None:
    """Refuse a name that the hub won't take, before anything is made.

    Raises:
        UserError: It isn't of the form owner/name.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"--push {repo}: no name of a model on the hub ({error}).") from error
    if repo.count("/") != 1:
        raise UserError(f"--push {repo}: name it owner/model, such as yourname/persodpo.")


def push_folder(folder: Path, repo: str, public: bool) -> str:
    """Upload a folder as a model, in one commit.

    The token is that of `hf auth login` or of the environment variable HF_TOKEN.

    Args:
        folder: What `persodpo.share.export.export_method` has written.
        repo: The model's name, owner/name; made if it isn't there.
        public: Whether everybody may see one that is made here.

    Returns:
        The commit's address.

    Raises:
        UserError: There is no token, or the hub refuses it or can't be reached.
    """
    api = HfApi()
    try:
        api.whoami()
        api.create_repo(repo, private=not public, exist_ok=True)
        done = api.upload_folder(
            repo_id=repo, folder_path=folder, commit_message="Exported by PersoDPO"
        )
    except LocalTokenNotFoundError as error:
        raise UserError(
            f"--push {repo}: there is no token for the Hugging Face hub; run hf auth login, or set "
            f"the environment variable HF_TOKEN. The folder {folder} is written; without --force "
            "it is uploaded as it is."
        ) from error
    except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"--push {repo}: the hub doesn't take it ({reason}). The folder {folder} is written; "
            "try again without --force, and it is uploaded as it is."
        ) from error
    return str(done.commit_url)
