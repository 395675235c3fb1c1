"""dvc.yaml is in step with params.yaml and the imports, and the workflow runs end to end."""

import ast
import json
import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from safetensors.torch import load_file, save_file
from warm_python import warm_python

from persodpo.errors import UserError
from persodpo.records import Evaluated, read_rows
from persodpo.score.judge import Judge
from persodpo.workflow import dvc_yaml
from persodpo.workflow.dvc_yaml import (
    imported_files,
    refuse_stale_lists,
    synchronise,
    synchronise_nli,
)
from persodpo.workflow.params import load_params

pytestmark = pytest.mark.slow

SECTIONS = ["sample", "generate", "models", "pool", "score", "scorers", "audit", "scoring",
            "pairing", "train", "evaluate", "report"]  # fmt: skip


@pytest.fixture(scope="module")
def document():
    return YAML(typ="safe").load(ROOT / "dvc.yaml")


def test_dvc_yaml_is_in_step(document, monkeypatch):
    """Fan-in lists equal the models, and declared modules equal the imported ones."""
    monkeypatch.chdir(ROOT)
    expected = json.loads(json.dumps(document))
    synchronise(expected, load_params())
    assert document == expected, "run python -m persodpo sync"
    nli = YAML(typ="safe").load(ROOT / "nli/dvc.yaml")
    expected = json.loads(json.dumps(nli))
    synchronise_nli(expected)
    assert nli == expected, "run python -m persodpo sync"
    for kind in ("responses", "scores"):
        files = [dep for dep in document["stages"]["pair"]["deps"] if f"artifacts/{kind}/" in dep]
        assert files == [f"artifacts/{kind}/{model}.jsonl" for model in load_params().pool]


def test_synchronise_follows_a_changed_pool(document, monkeypatch):
    monkeypatch.chdir(ROOT)
    params = load_params()
    models = params.models | {"new": params.models["golden"]}
    pool = ["new", "golden"]
    changed = json.loads(json.dumps(document))
    synchronise(changed, params.model_copy(update={"models": models, "pool": pool}))
    deps = changed["stages"]["pair"]["deps"]
    assert {"artifacts/scores/new.jsonl", "artifacts/responses/new.jsonl"} <= set(deps)
    assert "artifacts/scores/sft_samples.jsonl" not in deps
    # no trained method answers any more
    generate = changed["stages"]["generate"]["do"]
    assert "artifacts/policies/sft" not in generate["deps"]
    assert not [name for name in generate["params"] if name.startswith("models.${train")]


def test_synchronise_follows_a_judge(document, monkeypatch, tmp_path):
    """Stages that score depend on what they need of a chat model that judges, while it does."""
    monkeypatch.chdir(ROOT)
    params = load_params()
    rubric = "data/rubrics/persona_grade.md"
    judge = Judge(kind="judge", model="smollm2_sampled", rubric=rubric, mode="grade", low=1, high=5)
    changed = json.loads(json.dumps(document))
    local = params.models["smollm2_sampled"].model_copy(update={"model": str(tmp_path)})
    models = params.models | {"smollm2_sampled": local}
    scorers = params.scorers | {"grade": judge}
    judged = params.model_copy(update={"scorers": scorers, "models": models})
    synchronise(changed, judged)
    for name in ("score", "baseline", "evaluate"):
        body = changed["stages"][name]["do"]
        assert {"models.smollm2_sampled", "generate"} <= set(body["params"])
        assert {rubric, str(tmp_path)} <= set(body["deps"])
    for name in ("score", "evaluate"):
        assert params.generate.prices in changed["stages"][name]["do"]["deps"]
    synchronise(changed, params)
    assert changed == document
    assert changed["stages"]["pair"] == document["stages"]["pair"]
    synchronise(changed, params)
    assert changed == document


def test_a_stage_refuses_lists_of_another_pool(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = load_params()
    for stage in ("generate", "pair", "report"):
        refuse_stale_lists(stage, params)
    fewer = params.model_copy(update={"pool": ["golden"]})
    with pytest.raises(UserError, match="run python -m persodpo sync, then dvc repro"):
        refuse_stale_lists("pair", fewer)
    with pytest.raises(UserError, match="run python -m persodpo sync, then dvc repro"):
        refuse_stale_lists("generate", fewer)
    refuse_stale_lists("report", fewer)


def test_a_stage_that_somebody_added_is_left_alone(document, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(ROOT)
    own = {"cmd": "echo hello", "deps": ["README.md"]}
    several = {"cmd": ["echo a", "python -m mine"]}
    changed = json.loads(json.dumps(document))
    changed["stages"] |= {"own": dict(own), "several": dict(several)}
    synchronise(changed, load_params())
    assert changed["stages"] == document["stages"] | {"own": own, "several": several}
    file = tmp_path / "dvc.yaml"
    file.write_text(json.dumps(changed))
    monkeypatch.setattr(dvc_yaml, "DVC_FILE", file)
    refuse_stale_lists("pair", load_params())
    assert capsys.readouterr().err == ""


def test_imports_are_what_python_imports(monkeypatch):
    """The files read from the source are all modules that a real import loads.

    Imports inside functions count, too; they are made here by their statements.
    """
    monkeypatch.chdir(ROOT)
    for script in sorted(Path("stages").glob("[a-z]*.py")):
        found = {str(file) for file in imported_files(script)}
        late = [ast.unparse(node) for file in found
                for node in ast.walk(ast.parse(Path(file).read_text()))
                if isinstance(node, ast.ImportFrom) and node.col_offset
                and node.module.startswith("persodpo")]  # fmt: skip
        code = (
            f"{'; '.join([f'import stages.{script.stem}, sys, os', *sorted(late)])}; "
            "print(*sorted(os.path.relpath(m.__file__) for n, m in list(sys.modules.items()) "
            "if n.split('.')[0] in ('persodpo', 'stages')))"
        )
        command = [warm_python(), "-c", code]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert set(output.split()) - {"stages/__init__.py"} == found


def test_every_section_reaches_a_stage_that_reads_it(document):
    """An unknown key anywhere must re-run a stage, or it would go unnoticed.

    `launch` is no section: it is in the commands of the stages that run models, and changes
    no result.
    """
    assert sorted(document["stages"]["report"]["params"]) == sorted(SECTIONS)
    train = document["stages"]["train"]["do"]["params"]
    own = {key.removeprefix("train.") for key in train if key.startswith("train.")}
    fields = set(load_params(ROOT / "params.yaml").train.model_dump()) - {"methods"}
    fields.remove("checkpoint_steps")  # when a run is saved doesn't change what comes out
    assert own == fields | {"methods.${key}"}


def test_the_stages_that_run_models_are_launched(document):
    commands = {name: stage.get("do", stage)["cmd"] for name, stage in document["stages"].items()}
    launched = {name for name, command in commands.items() if command.startswith("${launch} -m ")}
    assert launched == {"generate", "score", "audit", "train", "baseline", "evaluate"}
    assert all(commands[name].startswith("python -m ") for name in commands.keys() - launched)


def test_dvc_restores_expensive_outputs(document):
    """Only the report's small files are kept out of DVC's cache, and nothing persists."""
    for name, stage in document["stages"].items():
        for out in stage.get("do", stage)["outs"]:
            flags = next(iter(out.values())) if isinstance(out, dict) else {}
            assert flags == ({"cache": False} if name == "report" else {})


@pytest.fixture(scope="module")
def workspace(finished_workspace, tmp_path_factory):
    return finished_workspace.copy_to(tmp_path_factory.mktemp("pipeline") / "workspace")


def test_the_whole_workflow(workspace, finished):
    everything = {"sample", "base", "generate", "score", "audit", "pair", "train", "baseline",
                  "evaluate", "report"}  # fmt: skip
    assert workspace.stages_run((finished / "first_run.txt").read_text()) == everything
    audit = (workspace.folder / "results/audit.md").read_text()
    assert all(f"| {label} " in audit for label in ("Coh-MiniLM", "C (any)", "UE (any)", "P"))
    table = (workspace.folder / "results/table1.md").read_text()
    assert all(f"| {name} " in table for name in ("base", "sft", "dpo", "persodpo"))
    assert workspace.run("git", "status", "--porcelain") == ""
    # the policies answer, and not some model of the pool
    for name in ("sft", "dpo", "persodpo"):
        rows = read_rows(workspace.folder / f"artifacts/evaluations/{name}.jsonl", Evaluated)
        assert {row.response.dtype for row in rows} == {"float32"}
    pairs = json.loads((workspace.folder / "artifacts/pairs/metrics.json").read_text())
    assert pairs["persodpo"]["pairs"] >= 5
    log = pd.read_csv(workspace.folder / "artifacts/training/persodpo.csv")
    assert {"loss", "grad_norm", "rewards/margins", "rewards/accuracies"} <= set(log.columns)


def test_a_second_run_does_nothing(workspace):
    assert workspace.stages_run(workspace.run("dvc", "repro")) == set()


def test_an_experiment_with_a_weight_runs_from_pair_on(workspace):
    output = workspace.run("dvc", "exp", "run", "-n", "heavier", "-S", "scoring.w1=2")
    assert workspace.stages_run(output) == {"pair", "train", "evaluate", "report"}
    shown = workspace.run("dvc", "exp", "show", "--json")
    assert "heavier" in shown
    difference = json.loads(workspace.run("dvc", "metrics", "diff", "--json"))
    change = difference["artifacts/pairs/metrics.json"]["persodpo.margin.mean"]
    assert change["new"] > change["old"]
    assert "index.html" in workspace.run("dvc", "plots", "show")
    page = (workspace.folder / "dvc_plots/index.html").read_text()
    for title in ("Training loss", "Reward margin", "Failure ratio", "Total scores"):
        assert title in page
    log = pd.read_csv(workspace.folder / "artifacts/training/persodpo.csv")
    assert str(log["rewards/margins"].iloc[-1]) in page
    workspace.run("git", "checkout", "-q", "--", ".")
    workspace.run("dvc", "checkout", "-q")


def test_replaced_weights_of_a_local_model_run_its_stages_again(workspace, tiny_model, capsys):
    """The folder is a dependency wherever the model answers, is trained or is a base."""
    document = YAML(typ="safe").load(workspace.folder / "dvc.yaml")
    for stage in ("generate", "train", "baseline", "evaluate"):
        assert str(tiny_model) in document["stages"][stage]["do"]["deps"], stage
    model = workspace.folder / "own model"
    shutil.copytree(tiny_model, model)
    params = workspace.folder / "params.yaml"
    params.write_text(params.read_text().replace(str(tiny_model), "own model"))
    workspace.python("-m", "persodpo", "sync")
    target = ("dvc", "repro", "generate@smollm2_greedy")
    assert workspace.stages_run(workspace.run(*target)) == {"generate"}
    assert workspace.stages_run(workspace.run(*target)) == set()
    answers = (workspace.folder / "artifacts/responses/smollm2_greedy.jsonl").read_text()
    weights = load_file(model / "model.safetensors")
    changed = {name: value.flip(0).contiguous() for name, value in weights.items()}
    save_file(changed, model / "model.safetensors", metadata={"format": "pt"})
    assert workspace.stages_run(workspace.run(*target)) == {"generate"}
    assert (workspace.folder / "artifacts/responses/smollm2_greedy.jsonl").read_text() != answers
    # a folder that dvc.yaml doesn't have is told
    workspace.run("git", "checkout", "-q", "--", "dvc.yaml")
    with chdir(workspace.folder):
        refuse_stale_lists("pair", load_params())
    assert "own model: DVC doesn't watch it for the stage train" in capsys.readouterr().err
    workspace.run("git", "checkout", "-q", "--", ".")
    shutil.rmtree(model)
    workspace.run("dvc", "checkout", "-q")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("params.yaml", "pool: [", "error: params.yaml, line 1: "),
        ("params.yaml", "pool: {}", "error: params.yaml: "),
        ("dvc.yaml", "stages: [", "error: dvc.yaml: can't be read as YAML ("),
    ],
)
def test_a_mistake_is_reported_by_the_command_that_keeps_dvc_yaml(workspace, file, text, message):
    (workspace.folder / file).write_text(text)
    output = workspace.python("-m", "persodpo", "sync", fails=True)
    assert message in output
    assert "Traceback" not in output
    workspace.run("git", "checkout", "-q", "--", ".")


def test_the_recipe_for_single_answers_times_measures_them(workspace, tmp_path):
    """docs/evaluation.md's: no time comes from the cache, where prompts were answered together.

    In a copy, since the recipe throws the cache of answers away.
    """
    copy = workspace.copy_to(tmp_path / "timed")
    recipe = (ROOT / "docs/evaluation.md").read_text().split("```bash\n")[1].split("```")[0]
    assert "generate.batch_size=1\n" in recipe
    copy.run("bash", "-ec", recipe.replace("batch_size=1\n", "batch_size=1 baseline@base\n"))
    rows = read_rows(copy.folder / "artifacts/evaluations/base.jsonl", Evaluated)
    assert {row.response.batch_size for row in rows} == {1}
    assert len({row.response.seconds for row in rows}) == len(rows)


def test_a_larger_sample_asks_for_the_new_prompts_only(workspace):
    """Also in a copy of the workspace, where DVC runs temporary experiments."""
    generation = "artifacts/generation/smollm2_greedy.json"
    target = "generate@smollm2_greedy"
    workspace.run("dvc", "exp", "run", "--temp", "-n", "larger", "-S", "sample.n_train=7", target)
    workspace.run("dvc", "exp", "apply", "larger")
    metrics = json.loads((workspace.folder / generation).read_text())
    assert (metrics["requests"], metrics["cache_hits"], metrics["calls"]) == (7, 5, 2)
    # larger by hand: what the experiment asked is there
    path = workspace.folder / "params.yaml"
    path.write_text(path.read_text().replace("n_train: 7", "n_train: 8 # one more"))
    workspace.run("dvc", "repro", target)
    metrics = json.loads((workspace.folder / generation).read_text())
    assert (metrics["cache_hits"], metrics["calls"]) == (7, 1)
    workspace.run("git", "checkout", "-q", "--", ".")
    workspace.run("dvc", "checkout", "-q")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("scoring.w9=1", "Could not override 'scoring.w9'"),  # DVC's own words
        ("+scoring.w9=1", "error: params.yaml: scoring.w9 is an unknown key"),
        ("scoring.w1=abc", "error: params.yaml: scoring.w1 must be a valid number, not 'abc'"),
        (
            "train.methods.dpo.learning_rate=-1",
            "error: params.yaml: train.methods.dpo.learning_rate must be greater than",
        ),
        ("+train.nonsense=1", "error: params.yaml: train.nonsense is an unknown key"),
    ],
)
def test_a_bad_setting_is_refused(workspace, setting, message):
    output = workspace.run("dvc", "exp", "run", "-S", setting, fails=True)
    assert message in output
    assert "Traceback" not in output
    workspace.run("git", "checkout", "-q", "--", ".")
    workspace.run("dvc", "checkout", "-q")


def test_a_broken_data_file_is_reported_by_the_stage(workspace):
    path = workspace.folder / "data/focus/train.json"
    path.write_text(path.read_text()[:10_000])
    output = workspace.run("dvc", "repro", fails=True)
    assert "error: data/focus/train.json, line" in output
    assert "Traceback" not in output
    workspace.run("git", "checkout", "-q", "--", ".")
