"""What keeps a checkpoint from being loaded is told in one sentence, a local one's or the hub's."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from conftest import ROOT, transformers_model
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from persodpo.errors import UserError
from persodpo.generate.run import generate_responses
from persodpo.models.loading import device_name, load_causal_lm, load_policy, load_tokenizer


@pytest.fixture
def folder(tmp_path, tiny_model):
    """A copy of the tiny model to damage."""
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def rename_weights(folder):
    weights = load_file(folder / "model.safetensors")
    renamed = {name.replace("q_proj", "query"): value for name, value in weights.items()}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})


def leave_one_out(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def pickle(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def other_shape(folder):
    config = json.loads((folder / "config.json").read_text()) | {"intermediate_size": 24}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: cut(folder / "model.safetensors"), "can't be loaded as a chat model from"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights as safetensors"),
        (lambda folder: cut(folder / "config.json"), "can't be loaded as a chat model from"),
        (lambda folder: (folder / "config.json").unlink(), "can't be loaded as a chat model from"),
        (rename_weights, "it has no weights for model.layers.0.self_attn.q_proj.weight"),
        (leave_one_out, "it has no weights for model.layers.1.mlp.up_proj.weight"),
        (pickle, "no weights as safetensors, and pickled ones aren't loaded"),
        (other_shape, "can't be loaded as a chat model from safetensors"),
    ],
)
def test_damaged_weights_are_refused(folder, damage, message):
    damage(folder)
    with pytest.raises(UserError) as caught:
        load_causal_lm(str(folder), None, "params.yaml: models.x.model", torch.float32)
    text = str(caught.value)
    assert text.startswith(f"params.yaml: models.x.model is '{folder}', which ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize("damage", ["cut", "gone", "no json"])
def test_a_damaged_tokenizer_is_refused(folder, damage):
    file = folder / "tokenizer.json"
    if damage == "cut":
        cut(file)
    elif damage == "gone":
        file.unlink()
    else:
        (folder / "tokenizer_config.json").write_text("[")
    with pytest.raises(UserError, match=r"models.x.model is .*, which can't be loaded as a tok"):
        load_tokenizer(str(folder), None, "params.yaml: models.x.model")


def test_half_an_adapter_is_refused(tmp_path, tiny_model):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"')
    with pytest.raises(UserError, match="can't be loaded as an adapter from safetensors"):
        load_policy(str(tiny_model), None, "key", tmp_path, torch.float32)


def adapter_on(model, folder):
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(model),
                             LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))  # fmt: skip
    for name, weight in adapter.named_parameters():
        if "lora" in name:
            torch.nn.init.normal_(weight, std=0.5)
    adapter.save_pretrained(folder)
    return folder / "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: {f"x.{name}": value for name, value in w.items()},
            "it has no weights for base_",
        ),
        (lambda w: dict(list(w.items())[1:]), "it has no weights for base_model.model.model"),
        (lambda w: w | {"x.lora_A": torch.ones(1)}, "it has unknown weights for x.lora_A"),
    ],
)
def test_an_adapter_whose_weights_are_not_its_own_is_refused(tmp_path, tiny_model, change, message):
    """PEFT would warn at most, and the policy would answer as its base."""
    file = adapter_on(tiny_model, tmp_path)
    load_policy(str(tiny_model), None, "key", tmp_path, torch.float32)
    save_file(change(load_file(file)), file)
    with pytest.raises(UserError, match=message):
        load_policy(str(tiny_model), None, "key", tmp_path, torch.float32)


def test_a_pickled_adapter_is_refused(tmp_path, tiny_model):
    file = adapter_on(tiny_model, tmp_path)
    torch.save(load_file(file), tmp_path / "adapter_model.bin")
    file.unlink()
    with pytest.raises(UserError, match=r"adapter_model.bin holds pickled weights"):
        load_policy(str(tiny_model), None, "key", tmp_path, torch.float32)


def test_a_whole_model_loads_with_tied_weights(tiny_model):
    assert AutoModelForCausalLM.from_pretrained(tiny_model).config.tie_word_embeddings
    load_causal_lm(str(tiny_model), None, "key", torch.float32)


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: a gated repository, a pickled one, and no other."""

    def do_GET(self):
        if "/owner/gated/" in self.path:
            self.reply(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is gated"})
        elif self.path.endswith("/config.json") and "/owner/pickled/" in self.path:
            self.reply(
                200,
                {"ETag": '"e"', "X-Repo-Commit": "a" * 40},
                b'{"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2}',
            )
        elif "/owner/pickled/" in self.path and "/resolve/" in self.path:
            self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "a" * 40})
        elif "/owner/pickled" in self.path:
            self.reply(
                200,
                {},
                json.dumps(
                    {
                        "id": "owner/pickled",
                        "sha": "a" * 40,
                        "siblings": [
                            {"rfilename": "pytorch_model.bin"},
                            {"rfilename": "config.json"},
                        ],
                    }
                ).encode(),
            )
        elif "/owner/revision/" in self.path:
            self.reply(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            self.reply(404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815 - the base class's names

    def reply(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


# One process for several models, since torch takes seconds; a line each.
LOAD = """
import sys, torch
from persodpo.errors import UserError
from persodpo.models.loading import load_causal_lm, load_tokenizer
load = {"weights": lambda name: load_causal_lm(name, "a" * 40, "models.x.model", torch.float32),
        "tokenizer": lambda name: load_tokenizer(name, "a" * 40, "models.x.model")}
for what, name in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        load[what](name)
    except UserError as error:
        print("error:", error)
"""


def load_from_hub(tmp_path, *models, **environment):
    """What is printed, in a process of its own, because the hub's address is read once."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | environment
    done = subprocess.run([sys.executable, "-c", LOAD, *models], env=env, text=True,
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


HUB = [
    ("weights", "owner/gated", "a gated model: accept its terms on its page of the hub"),
    ("tokenizer", "owner/gated", "a gated model: accept its terms on its page of the hub"),
    ("weights", "owner/nobody", "which the hub doesn't have or doesn't show without a login"),
    ("weights", "owner/revision", "whose revision the hub doesn't have"),
    ("weights", "owner/pickled", "which has no weights as safetensors, and pickled ones aren"),
]


@pytest.mark.slow
def test_models_of_the_hub_that_cannot_be_had(tmp_path, hub):
    models = [word for what, name, _ in HUB for word in (what, name)]
    lines = load_from_hub(tmp_path, *models, HF_ENDPOINT=hub)
    for line, (_, name, message) in zip(lines, HUB, strict=True):
        assert line.startswith(f"error: models.x.model is '{name}', {message}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "isn't in the cache of this machine, and HF_HUB_OFFLINE is set"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "of this machine, and the hub can't be reached"),
    ],
)
def test_no_network(tmp_path, environment, message):
    (line,) = load_from_hub(tmp_path, "weights", "owner/name", **environment)
    assert message in line


@pytest.mark.slow
def test_answers_have_their_number_format_and_device(tmp_path, monkeypatch, chat_model, prompts,
                                                     generate):  # fmt: skip
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    model = transformers_model(chat_model)
    for dtype in ("float32", "bfloat16"):
        params = generate.model_copy(update={"dtype": dtype})
        (row,) = generate_responses("m", model, prompts[:1], params, 60).responses
        assert (row.dtype, row.device) == (dtype, device_name())
    assert device_name().split()[0] in ("cpu", "cuda", "mps", "xpu")
