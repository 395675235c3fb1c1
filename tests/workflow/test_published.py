"""The profile published: answers that somebody else's systems gave, and nothing is trained."""

import json

import pandas as pd
import pytest
from published_logs import MODELS, write_logs
from workspace import Workspace, change_params

from persodpo.records import Evaluated, read_rows

pytestmark = pytest.mark.slow

SYSTEMS = {
    "base": "Qwen2-5B-Instruct", "dpo": "Qwen2-5B-Instruct-simple",
    "persodpo": "Qwen2-5B-Instruct-perso", "length_prior": "Qwen2-5B-Instruct-length_prior",
    "qwen2_7b_benchmark": "Qwen2-7B-benchmark", "qwen2_7b": "Qwen2-7B-Instruct",
    "mistral_7b": "Mistral-7B-Instruct", "llama_31_8b": "Llama3-1-8B-Instruct",
    "gemma_7b": "Gemma-7B-Instruct",
}  # fmt: skip


def test_published_answers_are_scored_through_dvc(tmp_path, tiny_model):
    logs = tmp_path / "logs"
    write_logs(logs, n=20, n_valid=10)
    answers = pd.read_csv(logs / f"responses/{MODELS[0]}.csv").head(10)
    (logs / "valid_responses").mkdir(parents=True)
    for name in SYSTEMS.values():
        # so that each row is known by its system and its number
        rows = answers.assign(gen_response=[json.dumps({"response": f"{name} says {i}."})
                                            for i in range(10)])  # fmt: skip
        rows.to_csv(logs / f"valid_responses/{name}.csv", index=False)
    # of one file the texts were taken out of the JSON, and of another run there are values alone
    for folder, name in (
        ("valid_responses", SYSTEMS["base"]),
        ("valid_metrics", SYSTEMS["persodpo"]),
    ):
        rows = answers.assign(gen_response=[f"{name} says {i}." for i in range(10)])
        (logs / folder).mkdir(exist_ok=True)
        rows.to_csv(logs / folder / f"{name}.csv", index=False)
    w = Workspace.create(tmp_path / "workspace", tiny_model)
    w.python("-m", "persodpo", "profile", "published", "--logs", str(logs))

    def shrink(params):
        params["sample"] |= {"n_train": 4, "n_valid": 6}
        # what the metrics are is tested elsewhere
        for key in ("c", "ue", "use"):
            del params["scorers"][key]
            params["scoring"]["weights"].pop(key, None)

    change_params(shrink, w.folder / "params.yaml")
    w.python("-m", "persodpo", "sync")
    w.commit("published")
    ran = w.stages_run(w.run("dvc", "repro"))
    assert ran == {"sample", "base", "generate", "score", "audit", "pair", "baseline", "report"}
    for key, name in (SYSTEMS | {"persodpo_values": SYSTEMS["persodpo"]}).items():
        rows = read_rows(w.folder / f"artifacts/evaluations/{key}.jsonl", Evaluated)
        assert len(rows) == 6
        for row in rows:
            number = row.response.id.removeprefix("valid-")
            assert row.response.answer == f"{name} says {number}."
    comparison = (w.folder / "results/comparison.md").read_text()
    assert "Compared with base" in comparison
    assert "| persodpo " in comparison.split("Compared with dpo")[1]
    assert w.run("git", "status", "--porcelain", "dvc.yaml") == ""
    # and back
    w.run("git", "checkout", "-q", "HEAD~1", "--", "params.yaml")
    w.python("-m", "persodpo", "sync")
    assert w.run("git", "diff", "HEAD~1", "--", "dvc.yaml") == ""
