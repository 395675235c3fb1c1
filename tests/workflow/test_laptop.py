"""The profile laptop: published answers form the pairs, and a small model is trained on them."""

import json

import pytest
from published_logs import MODELS, as_the_authors, write_logs
from workspace import Workspace, change_params

from persodpo.records import Evaluated, read_rows

pytestmark = pytest.mark.slow

METHODS = {"sft", "dpo", "persodpo", "persodpo_unweighted", "persodpo_no_start"}


def test_published_answers_train_what_is_judged(tmp_path, tiny_model):
    write_logs(tmp_path / "logs", n=20, n_valid=10)
    as_the_authors(tmp_path / "logs", tmp_path / "authors")
    (tmp_path / "clone").mkdir()
    w = Workspace.create(tmp_path / "clone", tiny_model)
    w.python("-m", "persodpo", "profile", "laptop", "--logs", str(tmp_path / "authors"))

    def shrink(params):
        assert set(params["train"]["methods"]) == METHODS
        assert len(params["pool"]) == len(MODELS)
        params["sample"] |= {"n_train": 4, "n_valid": 2}
        params["generate"]["max_tokens"] = 8
        params["models"]["smollm2"]["model"] = str(tiny_model)
        params["train"] |= {"warmup_steps": 0, "batch_size": 1}
        params["train"]["lora"]["r"] = 2
        # all of them take long, and two models and a start are what is new here
        params["pool"] = params["pool"][:2]
        for key in ("dpo", "persodpo_unweighted"):
            del params["train"]["methods"][key]

    change_params(shrink, w.folder / "params.yaml")
    w.python("-m", "persodpo", "sync")
    w.run("dvc", "repro")
    folder = w.folder / "artifacts"
    for name in ("base", "golden", "sft", "persodpo", "persodpo_no_start"):
        assert len(read_rows(folder / f"evaluations/{name}.jsonl", Evaluated)) == 2
    assert json.loads((folder / "pairs/metrics.json").read_text())["pool"]["responses"] == 8
    comparison = (w.folder / "results/comparison.md").read_text()
    for other in ("sft", "persodpo_no_start"):
        assert f"| persodpo - {other} " in comparison
