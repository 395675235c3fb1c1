"""A trained method that answers in the pool: real DVC, a tiny model."""

import json

import pytest
from test_experiments import status
from workspace import Workspace, change_params

from persodpo.records import Response, read_rows

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(finished_workspace, tmp_path_factory) -> Workspace:
    copy = finished_workspace.copy_to(tmp_path_factory.mktemp("policies") / "workspace")

    def change(params):
        params["pool"] = ["golden", "smollm2_greedy", "sft_samples"]
        params["models"]["sft_samples"]["samples"] = 2

    change_params(change, copy.folder / "params.yaml")
    copy.python("-m", "persodpo", "sync")
    copy.output = copy.run("dvc", "repro")
    copy.commit("a policy in the pool")
    return copy


def test_a_trained_method_answers_the_training_prompts(workspace):
    assert "Running stage 'generate@sft_samples'" in workspace.output
    assert "Running stage 'train@sft'" not in workspace.output
    rows = read_rows(workspace.folder / "artifacts/responses/sft_samples.jsonl", Response)
    assert len(rows) == 2 * 5
    assert {row.sample for row in rows} == {0, 1}
    keys = {row.request_key for row in rows}
    greedy = read_rows(workspace.folder / "artifacts/responses/smollm2_greedy.jsonl", Response)
    assert not keys & {row.request_key for row in greedy}
    scored = (workspace.folder / "artifacts/scored.jsonl").read_text()
    assert scored.count('"model":"sft_samples"') == 10


def test_its_answers_are_seeded_and_estimated(workspace):
    answers = workspace.folder / ".cache/answers"
    kept = {file: file.read_bytes() for file in answers.glob("*.jsonl")}
    for file in kept:
        file.unlink()
    assert "sft_samples: 10 of 10 responses" in workspace.python("-m", "persodpo", "cache", "seed")
    table = workspace.python("-m", "persodpo", "estimate")
    row = next(line for line in table.splitlines() if line.startswith("| sft_samples "))
    assert [cell.strip() for cell in row.split("|")][2:5] == ["10", "10", "0"]
    for file, content in kept.items():
        file.write_bytes(content)


def test_an_estimate_before_the_training_counts_all_its_answers(workspace, tmp_path):
    copy = workspace.copy_to(tmp_path / "workspace")
    for file in (copy.folder / "artifacts/policies/sft").iterdir():
        file.unlink()
    (copy.folder / "artifacts/policies/sft").rmdir()
    table = copy.python("-m", "persodpo", "estimate")
    row = next(line for line in table.splitlines() if line.startswith("| sft_samples "))
    assert [cell.strip() for cell in row.split("|")][2:5] == ["10", "0", "10"]


def test_what_trains_it_anew_runs_the_pool_again(workspace):
    def runs(key, value):
        path = workspace.folder / "params.yaml"
        text = path.read_text()

        def change(params):
            *sections, last = key.split(".")
            for each in sections:
                params = params[each]
            params[last] = value

        change_params(change, path)
        found = status(workspace)
        path.write_text(text)
        changed = {stage for stage, names in found.changed.items() if names}
        return changed, found.followers(changed)

    changed, follows = runs("train.seed", 2)
    assert changed == {"train@sft", "train@dpo", "train@persodpo", "report"}
    assert {"generate@sft_samples", "score@sft_samples", "pair", "evaluate@persodpo"} <= follows
    changed, follows = runs("train.methods.persodpo.weight", "none")
    assert (changed, follows) == ({"train@persodpo", "report"}, {"evaluate@persodpo"})
    changed, follows = runs("models.sft_samples.temperature", 0.5)
    assert changed == {"generate@sft_samples", "report"}
    assert "train@sft" not in follows
    changed, _ = runs("models.smollm2_greedy.chat_template_kwargs", {"a": 1})
    assert {"generate@sft_samples", "train@sft"} <= changed


def test_a_ring_is_refused_in_one_sentence(workspace):
    path = workspace.folder / "params.yaml"
    text = path.read_text()
    change_params(lambda p: p["models"]["sft_samples"].update(method="persodpo"), path)
    output = workspace.python("-m", "persodpo", "sync", fails=True)
    assert "error: params.yaml: pool names 'sft_samples', the method 'persodpo', which" in output
    assert "Traceback" not in output
    path.write_text(text)


def test_an_experiment_with_another_weight_trains_one_method(workspace):
    """docs/experiments.md: and the others' files stay what they are."""
    output = workspace.run("dvc", "exp", "run", "-S", "train.methods.persodpo.weight=none")
    ran = {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}
    assert ran == {"train@persodpo", "evaluate@persodpo", "report"}
    metrics = json.loads((workspace.folder / "artifacts/training/persodpo.json").read_text())
    assert {"displaced_share", "displaced_fall"} <= metrics.keys()
    workspace.run("git", "checkout", "-q", "--", ".")
    workspace.run("dvc", "checkout", "-q")
