"""What the tests of the export share: a folder that it reads, policies, evaluations, cards."""

import copy
import json
import re
import shutil

import torch
import yaml
from conftest import ROOT
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from workspace import change_params

from persodpo.pair.scoring import Bounds, Scale
from persodpo.records import Evaluated, Response, Score, write_rows, write_text
from persodpo.runner import ARTIFACTS, write_json

METHOD = "persodpo"
POLICY = ARTIFACTS / f"policies/{METHOD}"
HUB, REVISION = "someone/tiny", "0123456789abcdef0123456789abcdef01234567"
PAIRS = {"pool": {"responses": 24, "valid": 17, "missing_values": 0}, "values": {}, "excess": [],
         "persodpo": {"pairs": 31, "prompts": 6}, "dpo": {"pairs": 12, "prompts": 5}}  # fmt: skip
FINDINGS = """\
metric,question,measure,value,low,high,n,clusters,verdict
c,persona,auc,0.9,0.8,0.95,8,4,sees it
p,persona,auc,0.6,0.4,0.75,8,4,doesn't see it
"""
# A value of each of the default's metrics.
VALUES = {"coh": 0.4, "c": 1.0, "ue": 0.0, "p": 0.8765, "rouge": 0.2, "golden": 0.5, "use": 0.1}


def set_base(name, revision=None):
    def change(params):
        params["models"][params["train"]["model"]] |= {"model": str(name), "revision": revision}

    change_params(change)


def make_export_workspace(folder, monkeypatch, tiny_model, prompts):
    """Everything that an export reads but a policy and evaluations, in the working directory."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    shutil.copy(ROOT / "params.yaml", folder)
    set_base(tiny_model)
    change_params(lambda params: params["generate"].update(max_tokens=5))
    for split in ("train", "valid"):
        write_rows(ARTIFACTS / f"prompts/{split}.jsonl", prompts)
    write_json(ARTIFACTS / "pairs/metrics.json", PAIRS)
    bounds = {key: Bounds(low=-1.0, high=2.0) for key in ("c", "ue", "p", "coh")}
    write_json(ARTIFACTS / "pairs/scale.json", Scale(bounds=bounds, target=30.0).model_dump())
    write_text(ARTIFACTS / "audit/findings.csv", FINDINGS)
    write_json(ARTIFACTS / f"training/{METHOD}.json", {"pairs": 31, "steps": 6, "loss": 0.654321})


def make_adapter(base, name=None, revision=None):
    """An adapter as the stage train leaves it, one that changes what the model says."""
    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules="all-linear")
    torch.manual_seed(1)  # before peft draws the A matrices
    model = get_peft_model(model, config)
    for key, weights in model.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(weights, std=0.3)
    model.save_pretrained(POLICY)
    file = POLICY / "adapter_config.json"
    named = {"base_model_name_or_path": name or str(base), "revision": revision}
    file.write_text(json.dumps(json.loads(file.read_text()) | named))
    return model


def evaluate(name, prompts):
    """An evaluation as the stage leaves it, with a made-up answer and score to each prompt."""
    answer = {"model": name, "contract": "valid", "answer": "So be it."}
    rows = [Evaluated(
        response=Response(id=p.id, raw="", words=3, seconds=0.5, prompt_tokens=9, request_key=None,
                          completion_tokens=5, finish_reason="json", served_model=None,
                          system_fingerprint=None, **answer),
        score=Score(id=p.id, values=VALUES, **answer),
    ) for p in prompts]  # fmt: skip
    write_rows(ARTIFACTS / f"evaluations/{name}.jsonl", rows)


def card(folder):
    """The YAML head and the body of a card."""
    _, head, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(head), body


def python_blocks(body):
    return re.findall(r"```python\n(.*?)```", body, re.DOTALL)


@torch.inference_mode()
def logits(model, tokenizer):
    """Logits in double precision: they differ by the weights alone, whatever the processor."""
    model = copy.deepcopy(model).double().eval()
    return model(**tokenizer("Where is this place?", return_tensors="pt")).logits
