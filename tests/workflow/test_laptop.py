"""The profile laptop: published answers form the pairs, and a small model is trained on them."""

import json

import pytest
from published_logs import MODELS, as_the_authors, write_logs
from workspace import Workspace, change_params

from persodpo.records import Evaluated, read_rows

pytestmark = pytest.mark.slow

METHODS = {"sft", "dpo", "persodpo", "persodpo_unweighted", "persodpo_no_start"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_model) -> Workspace:
    folder = tmp_path_factory.mktemp("laptop")
    write_logs(folder / "logs", n=20, n_valid=10)
    as_the_authors(folder / "logs", folder / "authors")
    (folder / "clone").mkdir()
    w = Workspace.create(folder / "clone", tiny_model)
    w.python("-m", "persodpo", "profile", "laptop", "--logs", str(folder / "authors"))

    def shrink(params):
        assert set(params["train"]["methods"]) == METHODS
        assert len(params["pool"]) == len(MODELS)
        params["sample"] |= {"n_train": 4, "n_valid": 2}
        params["generate"]["max_tokens"] = 8
        params["models"]["smollm2"]["model"] = str(tiny_model)
        params["train"] |= {"warmup_steps": 0, "batch_size": 1}
        params["train"]["lora"]["r"] = 2

    change_params(shrink, w.folder / "params.yaml")
    w.commit("laptop")
    w.output = w.run("dvc", "repro")
    return w


def test_every_method_is_trained_and_judged(workspace):
    folder = workspace.folder / "artifacts"
    for name in METHODS | {"base", "golden"}:
        assert len(read_rows(folder / f"evaluations/{name}.jsonl", Evaluated)) == 2
    assert json.loads((folder / "pairs/metrics.json").read_text())["pool"]["responses"] == 28
    comparison = (workspace.folder / "results/comparison.md").read_text()
    for pair in ("persodpo_unweighted", "dpo", "sft", "persodpo_no_start"):
        assert f"| persodpo - {pair} " in comparison
    assert "| persodpo_unweighted - dpo " in comparison


def test_seeds_train_again_and_score_nothing_of_the_pool_again(workspace):
    (workspace.folder / ".venv").mkdir()
    (workspace.folder / ".venv/installed").touch()
    workspace.commit("seed 0")
    output = workspace.run("make", "--silent", "seeds", "SEEDS=1")
    assert workspace.stages_run(output) == {"train", "evaluate", "report"}
    assert "2 seeds (0, 1), 2 prompts" in output
