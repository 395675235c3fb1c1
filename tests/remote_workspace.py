"""A workspace whose one stage asks a server; shared by tests and benchmarks."""

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from persodpo.models.locations import locate
from persodpo.prompts import render_prompt
from persodpo.records import Prompt, write_rows

ROOT = Path(__file__).parents[1]
KEY = "sk-a-key-that-must-appear-nowhere-0123456789"
REMOTE = {
    "backend": "openai", "model": "some-model", "base_url": "", "api_key_env": "TEST_API_KEY",
    "persona": True, "temperature": 0.7, "top_p": 1.0, "seed": 0, "samples": 1,
    "max_tokens": None, "response_format": "json_object", "extra_body": None,
    "served_model": "same", "mode": "live", "concurrency": 16, "requests_per_minute": None,
    "tokens_per_minute": None, "timeout_seconds": 1.0, "attempts": 10,
}  # fmt: skip


def make_prompts(n: int) -> list[Prompt]:
    """Prompts that differ in one word each."""
    rows = []
    for i in range(n):
        persona, turns = [f"I have {i} cats."], ["Where is this place?", "In Rome.", "And how old?"]
        text = render_prompt(persona, turns, 110)
        rows.append(
            Prompt(id=f"p{i}", persona=persona, turns=turns, golden_answer="Old.", text=text)
        )
    return rows


@contextlib.contextmanager
def fault_server(log: Path, script: str = "fault_server.py", **options: Any) -> Iterator[str]:
    """Run the fault server, or another one with its arguments; gives its base_url."""
    command = [RemoteWorkspace.python(), str(ROOT / "tests" / script), "--log", str(log)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def attempts(log: Path) -> list[dict[str, Any]]:
    """What the server logged."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


class RemoteWorkspace:
    """A folder in which `python -m stages.generate remote` runs.

    Attributes:
        python: Gives the Python that `run` takes; the tests have a faster one.
    """

    python = staticmethod(lambda: sys.executable)

    def __init__(self, folder: Path, base_url: str, n: int, **changes: Any) -> None:
        self.folder = folder
        self.params = YAML(typ="safe").load(ROOT / "params.yaml")
        # beside it stands a model to train, which is not run
        self.params["models"] = {
            "remote": REMOTE | {"base_url": base_url} | changes,
            **{k: v for k, v in self.params["models"].items() if k == "smollm2_greedy"},
        }
        self.params["pool"] = ["remote", "smollm2_greedy"]
        self.params["evaluate"]["baselines"] = {"base": "smollm2_greedy"}
        self.params["generate"] |= {"max_cost_usd": 100.0}
        self.params["sample"] |= {"rounds": "last", "max_turns": None}
        self.prices = [{"base_url": base_url, "model": None, "input": 1.0, "output": 2.0}]
        self.set_prompts(n)
        self.write()

    def write(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "params.yaml").write_text(json.dumps(self.params))
        prices = {"date": "today", "source": "a test", "prices": self.prices}
        (self.folder / "data/prices.yaml").write_text(json.dumps(prices))

    def set_prompts(self, n: int) -> None:
        write_rows(self.folder / "artifacts/prompts/train.jsonl", make_prompts(n))

    def start(
        self, *arguments: str, python: str = sys.executable, **environment: str
    ) -> subprocess.Popen[str]:
        """Start the stage, or another command, without waiting for it."""
        command = [python, "-m", *(arguments or ("stages.generate", "remote"))]
        env = os.environ | {"PYTHONPATH": str(ROOT), "TEST_API_KEY": KEY} | environment
        return subprocess.Popen(command, cwd=self.folder, env=env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip

    def run(self, *arguments: str, fails: bool = False, **environment: str) -> str:
        """Run the stage, or another command, to its end."""
        process = self.start(*arguments, python=self.python(), **environment)
        output = process.communicate()[0]
        assert (process.returncode != 0) == fails, output
        assert "Traceback" not in output, output
        return output

    def responses(self) -> list[dict[str, Any]]:
        lines = (self.folder / "artifacts/responses/remote.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder / "artifacts/generation/remote.json").read_text())

    def kill_when_kept(self, n: int, log: Path, *arguments: str) -> int:
        """Start the stage, and kill it once so many answers are in the cache.

        Returns:
            How many of the answers that were kept at its start it has asked for again.
        """
        kept, begin = self.cached(), time.time()
        process = self.start(*arguments)
        while len(self.cached()) < n:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        process.kill()
        process.wait()
        return self.asked_again(kept, begin, log)

    @staticmethod
    def asked_again(kept: set[str], begin: float, log: Path) -> int:
        """How many attempts since a time were about prompts whose answers were kept by then."""
        return sum(each["came"] > begin and each["prompt"] in kept for each in attempts(log))

    def cached(self) -> set[str]:
        """Hashes of the prompts whose answers are in the cache, as the server logs them."""
        return {
            hashlib.sha256(
                json.loads(line)["request"]["messages"][0]["content"].encode()
            ).hexdigest()
            for file in (self.folder / ".cache/answers").glob("*.jsonl")
            for line in file.read_bytes().splitlines(keepends=True)
            if line.endswith(b"\n")
        }


def new_workspace(tmp_path: Path, base_url: str, n: int, **changes: Any) -> RemoteWorkspace:
    """A workspace in a folder of its own, so that other files may lie beside it."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return RemoteWorkspace(folder, base_url, n, **changes)


@contextlib.contextmanager
def serve_model(name: str) -> Iterator[tuple[str, str]]:
    """Run `transformers serve` with a model; gives its base_url and the name it serves."""
    folder = locate(name, None, "the served model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", folder,
               "--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                assert process.poll() is None, "transformers serve has ended"
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{url}/health", timeout=5).close()
                    break
                time.sleep(0.5)
            yield f"{url}/v1", folder
        finally:
            process.kill()
