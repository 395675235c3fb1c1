"""`python -m persodpo`, run as a user runs it."""

import json

import pytest
from judged_workspace import SCORE, judged_workspace
from remote_workspace import RemoteWorkspace, attempts, fault_server, make_prompts

from persodpo.records import Response, read_rows, write_rows

pytestmark = pytest.mark.slow

CACHE = ("persodpo", "cache")


@pytest.fixture
def asked(tmp_path):
    """A workspace whose model has answered 8 prompts, and the server's log."""
    with fault_server(tmp_path / "log") as url:
        workspace = RemoteWorkspace(tmp_path, url, 8)
        workspace.run()
        yield workspace


def cache_files(workspace):
    return list((workspace.folder / ".cache/answers").glob("*.jsonl"))


def estimated(output):
    """By row of the estimate: requests, those cached, and calls."""
    table = [[cell.strip() for cell in line.split("|")] for line in output.splitlines()]
    return {cells[1]: cells[2:5] for cells in table if len(cells) > 5}


def test_the_estimate_covers_the_whole_pool_without_a_call(tmp_path, tiny_model):
    with fault_server(tmp_path / "log") as url:
        w = RemoteWorkspace(tmp_path, url, 1)
        w.params["models"]["smollm2_greedy"]["model"] = str(tiny_model)
        data = (w.folder / "data/focus").absolute()
        data.mkdir()
        rounds = [{"persona": ["I sail."], "turns": [f"Where {i}?"], "golden_answer": f"There {i}."}
                  for i in range(9)]  # fmt: skip
        for split, rows in (("train", rounds[:6]), ("valid", rounds[6:])):
            lines = [json.dumps(row | {"id": f"{split}{i}"}) for i, row in enumerate(rows)]
            (data / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
            w.params["sample"][f"{split}_file"] = f"data/focus/{split}.jsonl"
        w.params["sample"] |= {"n_train": 6, "n_valid": 3}
        w.write()
        output = w.run("persodpo", "estimate")
        assert attempts(tmp_path / "log") == []
    rows = estimated(output)
    assert rows["remote"] == ["6", "0", "6"]
    assert rows["smollm2_greedy"] == ["6", "0", "6"]
    assert rows["base (baseline)"] == ["3", "0", "3"]
    assert rows["all"] == ["15", "0", "15"]


def test_the_estimate_covers_judges(tmp_path):
    """Of answers that there are it asks for those alone, and of others it says what it assumes."""
    with fault_server(tmp_path / "log.jsonl") as url:
        w = judged_workspace(tmp_path, url, 3)
        w.params["sample"] |= {
            "train_file": "train.jsonl", "valid_file": "valid.jsonl", "n_train": 3, "n_valid": 2,
        }  # fmt: skip
        w.write()
        prompts = make_prompts(5)
        for split, part in (("train", prompts[:3]), ("valid", prompts[3:])):
            lines = [
                json.dumps({"id": p.id, "persona": p.persona, "golden_answer": p.golden_answer,
                            "turns": [f"{split}?"] if split == "valid" else p.turns})
                for p in part
            ]  # fmt: skip
            (w.folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
        w.run(*SCORE)
        made = len(attempts(tmp_path / "log.jsonl"))
        output = w.run("persodpo", "estimate")
        assert len(attempts(tmp_path / "log.jsonl")) == made == 3 * 3
    rows = estimated(output)
    assert rows["remote judges golden"] == ["9", "9", "0"]
    assert rows["remote judges smollm2_greedy"] == ["9", "0", "9"]
    assert rows["remote judges base (baseline)"] == ["6", "0", "6"]
    assert rows["remote judges persodpo (method)"] == ["6", "0", "6"]
    assert "still to come are an assumption: that all are valid and as long as" in output
    # one of the answers is gone, and another has failed
    file = w.folder / "artifacts/responses/golden.jsonl"
    _, second, third = read_rows(file, Response)
    write_rows(file, [second, third.model_copy(update={"contract": "none", "answer": None})])
    assert estimated(w.run("persodpo", "estimate"))["remote judges golden"] == ["6", "3", "3"]


def test_the_cache_is_shown(asked):
    table = asked.run(*CACHE, "show")
    assert "| openai" in table
    assert "some-model" in table
    key = asked.responses()[0]["request_key"]
    entry = json.loads(asked.run(*CACHE, "show", key[:12]))
    assert entry["key"] == key
    assert entry["answer"]["raw"] == asked.responses()[0]["raw"]


def test_the_cache_is_verified_and_mended(asked):
    assert "8 sound entries, 0 damaged." in asked.run(*CACHE, "verify")
    (file,) = cache_files(asked)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0].replace("cats", "dogs"), *lines[1:]]))
    output = asked.run(*CACHE, "verify", fails=True)
    assert f"{file.relative_to(asked.folder)}, line 1: its request has the key" in output
    assert "7 sound entries, 1 damaged." in output
    assert "cache prune --damaged --yes" in asked.run(fails=True)  # the stage refuses it, too
    assert "1 entries to remove; add --yes" in asked.run(*CACHE, "prune", "--damaged")
    assert "1 entries removed." in asked.run(*CACHE, "prune", "--damaged", "--yes")
    asked.run()
    assert asked.metrics()["calls"] == 1


def test_the_cache_is_pruned_by_model_and_age(asked):
    assert "error: say what to prune" in asked.run(*CACHE, "prune", fails=True)
    assert "0 entries removed" in asked.run(*CACHE, "prune", "--model", "other", "--yes")
    assert "0 entries removed" in asked.run(*CACHE, "prune", "--older-than", "1", "--yes")
    assert "0 entries removed" in asked.run(*CACHE, "prune", "--backend", "transformers", "--yes")
    assert "8 entries to remove" in asked.run(*CACHE, "prune", "--backend", "openai")
    prune = ("prune", "--model", "some-model", "--older-than", "0")
    assert "8 entries to remove" in asked.run(*CACHE, *prune)
    assert "8 entries removed" in asked.run(*CACHE, *prune, "--yes")
    assert cache_files(asked) == []
    assert "no answers" in asked.run(*CACHE, "show")


def test_the_cache_is_seeded_from_responses(asked):
    """A colleague who pulled the responses pays for new prompts only."""
    for file in cache_files(asked):
        file.unlink()
    assert "remote: 8 of 8 responses taken over." in asked.run(*CACHE, "seed")
    asked.set_prompts(11)
    asked.run()
    assert asked.metrics()["calls"] == 3


def test_no_response_to_another_request_is_seeded(asked):
    for file in cache_files(asked):
        file.unlink()
    asked.params["models"]["remote"]["temperature"] = 0.1
    asked.write()
    assert "remote: 0 of 8 responses taken over." in asked.run(*CACHE, "seed")
    assert cache_files(asked) == []


def test_no_method_is_exported_that_params_yaml_does_not_name(tmp_path):
    w = RemoteWorkspace(tmp_path, "http://localhost:1/v1", 1)
    output = w.run("persodpo", "export", "nothing", "--to", "out", fails=True)
    assert "error: params.yaml: train.methods has no key 'nothing'; the keys there are" in output
    assert "Traceback" not in output
    assert not (w.folder / "out").exists()
