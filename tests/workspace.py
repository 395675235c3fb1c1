"""A copy of the repository in which real DVC and real git run."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Self

from ruamel.yaml import YAML
from warm_python import warm_python

from persodpo.config.reading import PARAMS_FILE

ROOT = Path(__file__).parents[1]


def change_params(change: Callable[[dict], None], path: Path = PARAMS_FILE) -> None:
    """Rewrites params.yaml with its comments; the path is taken from the working directory."""
    yaml = YAML()
    params = yaml.load(path)
    change(params)
    yaml.dump(params, path)


class Workspace:
    """A copy of the repository in its own git and DVC, with a tiny model and a tiny sample."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, model: Path) -> Self:
        workspace = cls(folder)
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        for name in tracked:
            if name != "dvc.lock" and (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        workspace.shrink(model)
        workspace.python("-m", "persodpo", "sync")
        workspace.run("git", "init", "-q", "-b", "main")
        workspace.commit("start")
        return workspace

    def shrink(self, model: Path) -> None:
        def change(params: dict) -> None:
            params["sample"] |= {"n_train": 5, "n_valid": 3}
            params["generate"] |= {"max_tokens": 8}
            # the trained model isn't the first, so that nothing can take the one for the other
            params["pool"] = ["golden", "smollm2_greedy"]
            params["models"]["smollm2_greedy"]["model"] = str(model)
            del params["train"]["methods"]["persodpo_unweighted"]
            params["train"] |= {"warmup_steps": 0, "batch_size": 1}
            params["train"]["lora"]["r"] = 2

        change_params(change, self.folder / PARAMS_FILE)

    def copy_to(self, folder: Path) -> Self:
        """The same workspace elsewhere: its files, git, DVC's cache, the cache of answers."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return type(self)(folder)

    def python(self, *arguments: str, fails: bool = False) -> str:
        return self.run("python", *arguments, fails=fails)

    def run(self, *command: str, fails: bool = False) -> str:
        warm_python()  # DVC's stages find it in PATH
        identity = {f"GIT_{who}_{what}": "tester@example.org"
                    for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}  # fmt: skip
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False,
            env=os.environ | identity,
        )  # fmt: skip
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)

    def stages_run(self, output: str) -> set[str]:
        return {line.split("'")[1].split("@")[0] for line in output.splitlines()
                if line.startswith("Running stage")}  # fmt: skip
