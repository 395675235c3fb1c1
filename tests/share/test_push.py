"""An export is brought to the hub, here a server that plays the part of the hub that is needed."""

import base64
import http.server
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from conftest import ROOT
from export_workspace import METHOD, card, evaluate, make_adapter, make_export_workspace
from typer.testing import CliRunner
from warm_python import warm_python

from persodpo.cli import app
from persodpo.share.policies import policy_folder

TOKEN = "hf_a_token_that_must_appear_nowhere"
NAME = "someone/persona-model"


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch, tiny_model, prompts):
    make_export_workspace(tmp_path, monkeypatch, tiny_model, prompts)
    make_adapter(tiny_model)
    for name in ("base", "golden", METHOD):
        evaluate(name, prompts)


class Hub(http.server.BaseHTTPRequestHandler):
    """Takes what is uploaded in one commit, file by file in base64."""

    def do_GET(self):
        self.answer({"name": "someone", "type": "user", "auth": {}})

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.path.endswith("/repos/create"):
            self.server.created.append(json.loads(body))
            self.answer({"url": f"{self.server.address}/{NAME}", "name": NAME, "id": NAME})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            settings = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self.answer({"files": [{"path": file["path"]} | settings for file in files]})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    content = base64.b64decode(item["value"]["content"])
                    self.server.files[item["value"]["path"]] = content
            self.answer(
                {
                    "commitUrl": f"{self.server.address}/{NAME}/commit/1",
                    "commitOid": "1",
                    "success": 1,
                }
            )
        else:  # the card's head is checked
            self.answer({"errors": [], "warnings": []})

    def chunks(self):
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        return body

    def answer(self, value):
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.created, server.tokens = {}, [], set()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def push(address, *options, token=TOKEN):
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    env |= {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": address, "HF_HOME": str(Path.cwd() / "hf"),
            **({"HF_TOKEN": token} if token else {})}  # fmt: skip
    command = [warm_python(), "-m", "persodpo", "export", METHOD, "--to", "out", "--push", NAME]
    return subprocess.run(
        [*command, *options], env=env, capture_output=True, text=True, check=False
    )


def files_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes()
            for file in folder.rglob("*") if file.is_file()}  # fmt: skip


@pytest.mark.slow
def test_a_model_is_uploaded_in_one_commit(tmp_path, hub):
    done = push(hub.address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"uploaded: {hub.address}/{NAME}/commit/1" in done.stdout
    (created,) = hub.created
    assert created["visibility"] == "private"
    assert hub.files == files_of(tmp_path / "out")
    assert hub.tokens == {f"Bearer {TOKEN}"}
    told = done.stdout + done.stderr + b"".join(hub.files.values()).decode(errors="ignore")
    assert TOKEN not in told


@pytest.mark.slow
def test_what_can_go_wrong_is_told_in_one_sentence(tmp_path):
    done = push("http://127.0.0.1:1")
    assert done.returncode == 1
    assert f"error: --push {NAME}: the hub doesn't take it" in done.stderr
    assert "Traceback" not in done.stderr
    done = push("http://127.0.0.1:1", "--force", token=None)
    assert "there is no token for the Hugging Face hub; run hf auth login" in done.stderr
    assert (tmp_path / "out/README.md").is_file()


def invoke(*options):
    return CliRunner().invoke(app, ["export", METHOD, "--to", "out", *options])


def test_a_dry_run_lists_what_would_be_sent(tmp_path):
    done = invoke("--push", NAME, "--dry-run")
    assert done.exit_code == 0, done.output
    for name, content in files_of(tmp_path / "out").items():
        assert f"would upload {name}, {len(content):,} bytes" in done.output
    assert f"to {NAME}, private if it is new; nothing was sent" in done.output


def test_a_folder_that_is_there_is_taken_as_it_is(tmp_path):
    """What its owner has mended in the card stays; --force writes it anew."""
    assert invoke().exit_code == 0
    readme = tmp_path / "out/README.md"
    written = readme.read_text()
    readme.write_text("mended")
    done = invoke("--push", NAME, "--dry-run")
    assert done.exit_code == 0, done.output
    assert "would upload README.md, 6 bytes" in done.output
    assert invoke("--push", NAME, "--dry-run", "--force").exit_code == 0
    assert readme.read_text() == written


def test_another_policy_is_not_uploaded_as_the_method_s(tmp_path):
    assert invoke().exit_code == 0
    weights = policy_folder(METHOD) / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = invoke("--push", NAME, "--dry-run")
    assert f"holds another policy than that of {METHOD} as it is now" in str(done.exception)
    (tmp_path / "out/persodpo.json").unlink()
    assert "is no export" in str(invoke("--push", NAME, "--dry-run").exception)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--push", "persona-model"], "name it owner/model"),
        (["--push", "some one/x"], "no name of a model on the hub"),
        (["--dry-run"], "belong to --push"),
        (["--public"], "belong to --push"),
    ],
)
def test_a_wrong_option_is_told_before_anything_is_written(tmp_path, options, message):
    done = invoke(*options)
    assert done.exit_code == 1
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_card_has_audit_intervals_and_limits(tmp_path):
    invoke()
    body = card(tmp_path / "out")[1]
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert "## Differences from other candidates" in headings
    assert "## Can each metric see what it is named for?" in headings
    assert "## Limits" in headings
    (row,) = [line for line in body.splitlines() if line.startswith(f"| {METHOD} - base ")]
    assert "undecided" in row  # four prompts tell nothing
    assert "| sft - base" not in body
