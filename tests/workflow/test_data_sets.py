"""The profiles of other data sets, on made-up files of their form."""

import json

import pytest
from workspace import Workspace, change_params

from persodpo.records import Evaluated, Prompt, read_rows

pytestmark = pytest.mark.slow


def write_convai2(folder):
    for split in ("train", "valid"):
        lines = []
        for n in range(8):
            lines += [f"1 your persona: i have {n} cats.", f"2 hi, {split} {n}?\ti like my cats."]
            lines += ["3 and dogs?\tonly cats.\t\tno.|yes."]
        (folder / f"{split}_self_original.txt").write_text("\n".join(lines))


def write_blended(folder):
    for split in ("train", "valid"):
        rows = [
            {
                "personas": [["i am free."], [f"i have {n} cats."]],
                "free_turker_utterance": f"hi, {split} {n}?",
                "guided_turker_utterance": "i like my cats.",
                "dialog": [[0, "and dogs?"], [1, "only cats."]],
            }
            for n in range(8)
        ]
        (folder / f"{split}.json").write_text(json.dumps(rows))


def workspace(folder, model, name, write) -> Workspace:
    w = Workspace.create(folder, model)
    w.python("-m", "persodpo", "profile", name)
    data = w.folder / "data" / name
    data.mkdir()
    write(data)
    return w


def check_prompts(w, n):
    prompts = read_rows(w.folder / "artifacts/prompts/valid.jsonl", Prompt)
    assert len(prompts) == n
    assert all("Persona of User2:\n- i have " in prompt.text for prompt in prompts)
    return prompts


def test_blended_skill_talk_is_sampled(tmp_path, tiny_model):
    w = workspace(tmp_path, tiny_model, "blended_skill_talk", write_blended)
    change_params(
        lambda params: params["sample"].update(n_train=4, n_valid=3), w.folder / "params.yaml"
    )
    assert w.stages_run(w.run("dvc", "repro", "sample")) == {"sample"}
    check_prompts(w, 3)


def test_convai2_runs_to_its_end(tmp_path, tiny_model):
    w = workspace(tmp_path, tiny_model, "convai2", write_convai2)

    def shrink(params):
        params["sample"] |= {"n_train": 4, "n_valid": 3}
        params["generate"]["max_tokens"] = 8
        params["models"]["smollm2"]["model"] = str(tiny_model)
        # answers of random weights all fail, and so form no pair
        params["pool"] = ["smollm2", "golden"]
        methods = params["train"]["methods"]
        for key in ("dpo", "persodpo_unweighted"):
            del methods[key]
        params["train"] |= {"warmup_steps": 0, "batch_size": 1}
        params["train"]["lora"]["r"] = 2

    change_params(shrink, w.folder / "params.yaml")
    w.python("-m", "persodpo", "sync")
    w.run("dvc", "repro")
    prompts = check_prompts(w, 3)
    rows = read_rows(w.folder / "artifacts/evaluations/persodpo.jsonl", Evaluated)
    assert [row.response.id for row in rows] == [prompt.id for prompt in prompts]
    # with its own prompt a method is handed on, too
    w.python("-m", "persodpo", "export", "persodpo", "--to", "exported")
    assert "Persona of User2:\n- PERSONA\n" in (w.folder / "exported/prompt.txt").read_text()
