"""`python -m persodpo profile`, and the profiles themselves."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from published_logs import write_logs
from workspace import Workspace

from persodpo.config.models import LoggedModel, OpenAIModel, TransformersModel
from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError
from persodpo.generate.cost import read_price
from persodpo.workflow.params import load_params
from persodpo.workflow.profiles import profile_text


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, tiny_model):
    return Workspace.create(tmp_path_factory.mktemp("workspace"), tiny_model)


@pytest.fixture
def clean(workspace):
    yield workspace
    workspace.run("git", "checkout", "-q", "--", ".")


def test_the_paper_s_set_up(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (tmp_path / "params.yaml").write_text(profile_text("paper", None))
    params = load_params(tmp_path / "params.yaml")
    pool = [params.models[key] for key in params.pool]
    assert [type(model) for model in pool] == [TransformersModel] * 3 + [OpenAIModel] * 3
    assert all(len(m.revision) == 40 for m in params.models.values() if hasattr(m, "revision"))
    assert params.train.model not in params.pool
    assert params.trained_model().model == "Qwen/Qwen2-0.5B-Instruct"
    assert (params.sample.n_train, params.sample.n_valid) == (1500, 1000)
    for key in params.pool[3:]:  # each has a price, so that the budget holds
        assert read_price(Path(params.generate.prices), key, params.models[key]).output > 0
    train = params.train
    assert (train.batch_unit, train.batch_size, train.warmup_steps) == ("pairs", 16, 150)


def test_the_replay_names_seven_logged_models(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    write_logs(tmp_path, n=2, n_valid=2)
    (tmp_path / "params.yaml").write_text(profile_text("replay", tmp_path))
    params = load_params(tmp_path / "params.yaml")
    assert len(params.pool) == 7
    assert all(isinstance(params.models[key], LoggedModel) for key in params.pool)
    assert all(set(scorer.files) == set(params.pool) for scorer in params.scorers.values())


def test_the_published_outputs_are_found_in_a_clone(tmp_path, monkeypatch):
    """Under the authors' names; the raw answers before those taken out of their JSON."""
    monkeypatch.chdir(ROOT)
    text = (ROOT / "profiles/published.yaml").read_text()
    answers = {Path(name).stem for name in re.findall(r"\$logs/valid_responses/(\S+)", text)}
    untrained = "Qwen2-5B-Instruct"
    files = [f"Prompts/FoCus{end}.csv" for end in ("-train", "-valid")]
    files += [f"Raw Responses/FoCus/{name}.csv" for name in answers - {untrained}]
    files += [f"Responses/FoCus/{name}.csv" for name in answers]
    files += [f"Metrics Results/FoCus/{untrained}-perso{end}.xlsx" for end in ("-results", "")]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "params.yaml").write_text(profile_text("published", tmp_path))
    models = load_yaml(tmp_path / "params.yaml")["models"]
    found = {key: model["file"].removeprefix(f"{tmp_path}/") for key, model in models.items()
             if model["backend"] == "logged"}  # fmt: skip
    assert found["base"] == f"Responses/FoCus/{untrained}.csv"
    assert found["persodpo"] == f"Raw Responses/FoCus/{untrained}-perso.csv"
    assert found["persodpo_values"] == f"Metrics Results/FoCus/{untrained}-perso-results.xlsx"
    assert found["gemma_7b"] == "Raw Responses/FoCus/Gemma-7B-Instruct.csv"


@pytest.mark.slow
def test_a_profile_takes_the_place_of_params(clean):
    clean.python("-m", "persodpo", "profile", "paper")
    params = load_params(clean.folder / "params.yaml")
    assert params.pool[0] == "qwen2_7b"
    text = (clean.folder / "dvc.yaml").read_text()
    assert "artifacts/scores/gpt_4o_mini.jsonl" in text
    assert "artifacts/scores/golden.jsonl" not in text
    assert "artifacts/evaluations/mistral_7b.jsonl" in text
    # DVC reads it
    assert "generate@gpt_4_turbo" in clean.run("dvc", "stage", "list")


@pytest.mark.slow
def test_changes_are_not_lost(clean):
    path = clean.folder / "params.yaml"
    path.write_text(path.read_text() + "# mine\n")
    message = "params.yaml or dvc.yaml has changes that aren't committed"
    assert message in clean.python("-m", "persodpo", "profile", "paper", fails=True)
    assert path.read_text().endswith("# mine\n")
    clean.python("-m", "persodpo", "profile", "paper", "--force")
    assert "# mine" not in path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "there is no such profile; there are blended_skill_talk, convai2, laptop, "),
        (["../params"], "there is no such profile"),
        (["replay"], "name its folder with --logs"),
        (["replay", "--logs", "tests"], "it has neither prompts/train.csv nor Prompts/FoCus-train"),
        (["paper", "--logs", "tests"], "it needs no published files; leave --logs out"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(clean, arguments, message):
    output = clean.python("-m", "persodpo", "profile", *arguments, fails=True)
    assert message in output
    assert "Traceback" not in output
    assert clean.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_a_wrong_profile_changes_nothing(clean):
    path = clean.folder / "profiles/mine.yaml"
    path.write_text((ROOT / "profiles/paper.yaml").read_text().replace("w1: 0.32", "w1: much"))
    output = clean.python("-m", "persodpo", "profile", "mine", fails=True)
    assert "profiles/mine.yaml: scoring.w1 must be a valid number, not 'much'" in output
    path.unlink()
    assert clean.run("git", "status", "--porcelain") == ""


def test_no_profile_outside_its_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no such profile"):
        profile_text("paper", None)
