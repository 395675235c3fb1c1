"""Candidates on prompts: who answers, how often, and under which name."""

import shutil

import pytest
from conftest import ROOT
from safetensors.torch import load_file, save_file
from workspace import change_params

from persodpo.config import read_params
from persodpo.evaluate import EvaluationParams, evaluate_candidate


@pytest.fixture
def params(tmp_path, monkeypatch, tiny_model):
    """One sampled model, in the pool with two answers to each prompt."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    shutil.copy(ROOT / "params.yaml", tmp_path)

    def change(params):
        sampled = {"model": str(tiny_model), "temperature": 1.0, "samples": 2}
        params["models"]["smollm2_greedy"] |= sampled
        params["generate"] |= {"max_tokens": 8, "prices": str(ROOT / "data/prices.yaml")}
        params["scorers"] = {"p": dict(params["scorers"]["p"])}
        params["scoring"]["weights"] = {"p": 1.0}

    change_params(change)
    return read_params(EvaluationParams)


def test_a_baseline_answers_once_under_its_own_name(params, prompts, tmp_path):
    rows = evaluate_candidate("base", tmp_path / "no policy", prompts, params)
    assert [row.response.id for row in rows] == [prompt.id for prompt in prompts]
    assert {(row.response.model, row.response.sample) for row in rows} == {("base", 0)}
    assert all((row.score.id, row.score.model) == (row.response.id, "base") for row in rows)


@pytest.mark.slow
def test_a_method_answers_by_its_policy(params, prompts, tmp_path, tiny_model):
    """Here a whole model, which answers otherwise than its base, with the base's settings."""
    policy = tmp_path / "policy"
    shutil.copytree(tiny_model, policy)
    weights = load_file(policy / "model.safetensors")
    flipped = {name: value.flip(0).contiguous() for name, value in weights.items()}
    save_file(flipped, policy / "model.safetensors", metadata={"format": "pt"})
    (base,) = evaluate_candidate("base", policy, prompts[:1], params)
    (method,) = evaluate_candidate("dpo", policy, prompts[:1], params)
    assert method.response.model == "dpo"
    assert method.response.raw != base.response.raw
    assert method.response.request_key != base.response.request_key


def test_candidates_are_baselines_and_methods(params):
    assert params.candidates() == {
        "base": "smollm2_greedy", "golden": "golden",
        **dict.fromkeys(["sft", "dpo", "persodpo", "persodpo_unweighted"], "smollm2_greedy"),
    }  # fmt: skip
