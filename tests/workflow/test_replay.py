"""The replay of published logs: the released code's pairs, to the last one."""

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from published_logs import as_the_authors, write_logs
from workspace import Workspace

from benchmarks import original_pairs, pairing, published
from persodpo.workflow.params import load_params
from persodpo.workflow.profiles import profile_text

pytestmark = pytest.mark.slow

# Of the paper (valid against invalid), and of its code.
PUBLISHED = {"dpo": 12_452, "persodpo": 9_184}


# a folder's name may hold anything
AUTHORS = "the authors' #1: Ünï 🌊"


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    write_logs(folder)
    return folder


def replay(logs: Path, folder: Path):
    path = folder / "params.yaml"
    path.write_text(profile_text("replay", logs))
    params = load_params(path)
    return (
        params,
        pairing.replay_pool(params),
        original_pairs.scored(original_pairs.read_logs(logs)),
    )


@pytest.fixture(scope="module")
def random_pool(logs, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return replay(logs, tmp_path_factory.mktemp("random"))


def check(params, pool, theirs, low, high):
    """Every pair of ours is one of the recount, and the other way round."""
    changed = params.pairing.model_copy(update={"low_quantile": low, "high_quantile": high})
    table, sets = pairing.pair_sets(pool, params, params.scoring, changed)
    ours = {which: pairing.keys(pairs, table, params) for which, pairs in sets.items()}
    assert ours["persodpo"] == original_pairs.persodpo_pairs(theirs, low, high)
    assert ours["dpo"] == original_pairs.dpo_pairs(theirs)
    return {which: len(pairs) for which, pairs in ours.items()}


quantiles = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(quantiles=quantiles)
@settings(max_examples=6)
def test_random_logs_give_the_pairs_of_a_recount(random_pool, quantiles):
    check(*random_pool, *quantiles)


@pytest.fixture(scope="module")
def published_pool(tmp_path_factory):
    logs = (ROOT / published.FOCUS_LOGS).resolve()
    if not logs.is_dir():
        pytest.skip(f"the published logs aren't in {logs} (FOCUS_LOGS)")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return replay(logs, tmp_path_factory.mktemp("published"))


def test_the_published_logs_give_the_published_numbers(published_pool):
    params = published_pool[0]
    low, high = params.pairing.low_quantile, params.pairing.high_quantile
    assert check(*published_pool, low, high) == PUBLISHED


@given(quantiles=quantiles)
@settings(max_examples=6)
def test_and_those_of_a_recount_at_other_quantiles(published_pool, quantiles):
    check(*published_pool, *quantiles)


def test_the_replay_through_dvc(logs, random_pool, tiny_model, tmp_path):
    """A clone of the authors' repository is named in one command, and `dvc repro pair` does it."""
    as_the_authors(logs, tmp_path / AUTHORS)
    (tmp_path / "clone").mkdir()
    workspace = Workspace.create(tmp_path / "clone", tiny_model)
    command = ("-m", "persodpo", "profile", "replay", "--logs", f"../{AUTHORS}")
    workspace.python(*command)
    output = workspace.run("dvc", "repro", "pair")
    assert workspace.stages_run(output) == {"sample", "generate", "score", "pair"}
    metrics = json.loads((workspace.folder / "artifacts/pairs/metrics.json").read_text())
    expected = check(*random_pool, 0.4, 0.6)
    assert {which: metrics[which]["pairs"] for which in expected} == expected
    scored = pd.read_json(workspace.folder / "artifacts/scored.jsonl", lines=True, dtype=False)
    assert len(scored) == metrics["pool"]["responses"] == 10_500
    assert {"id", "model", "raw", "answer", "c", "s_c", "s_length", "s_total"} <= set(scored)
    margin = metrics["persodpo"]["margin"]["max"]
    assert 0 < margin <= scored["s_total"].max() - scored["s_total"].min()
    assert workspace.stages_run(workspace.run("dvc", "repro", "pair")) == set()
