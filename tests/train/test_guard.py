"""The displacement guard: when it speaks, and what is taken where it stops a training."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_trainings import (
    MORE_PAIRS,
    MORE_PROMPTS,
    Runs,
    train_params,
    weights,
)
from transformers.trainer_callback import TrainerControl, TrainerState

from persodpo.config.train import GuardParams
from persodpo.errors import UserError
from persodpo.records import Demonstration
from persodpo.train.checkpoints import run_folder
from persodpo.train.guard import (
    FALL,
    SHARE,
    DisplacementGuard,
    copy_policy,
    displaced_at,
    last_good_step,
    policy_copy,
    refuse_sharded,
    saved_policy,
)
from persodpo.train.run import TrainingRun

GUARD = {"action": "stop", "steps": 2, "share": 0.5, "fall": 0.6}
DISPLACING = {"start": "sft", "sft_weight": 0.0, "weight": "none", "learning_rate": 0.05}


@pytest.fixture
def run(tiny_model, tmp_path, monkeypatch):
    return Runs(tiny_model, tmp_path, monkeypatch)


def history(values):
    return [{"step": n, SHARE: s, FALL: f} for n, (s, f) in enumerate(values, start=1)]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 2)), max_size=12),
    st.integers(1, 4), st.floats(0, 0.9), st.floats(0, 1),
)  # fmt: skip
def test_when_it_speaks(values, steps, share, fall):
    """At the first step behind which both means over the window are above their limits."""
    guard = GuardParams(action="warn", steps=steps, share=share, fall=fall)
    expected = None
    for end in range(steps, len(values) + 1):
        window = values[end - steps : end]
        if all(
            sum(row[i] for row in window) / steps > limit for i, limit in ((0, share), (1, fall))
        ):
            expected = end
            break
    assert displaced_at(history(values), guard) == expected
    # what is between the steps of the log, such as held-out losses, doesn't count
    mixed = [row for each in history(values) for row in (each, {"step": each["step"], "eval": 1})]
    assert displaced_at(mixed, guard) == expected


@given(st.integers(1, 200), st.integers(1, 9))
def test_what_is_kept_lies_before_the_window_and_is_still_there(step, steps):
    """Checkpoints are made after every so many steps, and the two newest ones are there."""
    guard = GuardParams(**(GUARD | {"steps": steps}))
    kept = last_good_step(step, guard)
    made = list(range(steps, step + 1, steps))
    assert kept <= max(0, step - steps)
    assert kept == 0 or kept in made[-2:]


def test_what_is_kept_outlives_its_checkpoint(tmp_path):
    """A run that is stopped saves once more at its end, and the trainer has room for two."""
    for step in (4, 6):
        saved_policy(tmp_path, step).mkdir()
        (saved_policy(tmp_path, step) / "weights").write_text(str(step))
    copy_policy(tmp_path, 4)
    shutil.rmtree(saved_policy(tmp_path, 4))
    # as a run that is resumed where it was stopped does again
    copy_policy(tmp_path, 4)
    assert (policy_copy(tmp_path) / "weights").read_text() == "4"


def start_of(run, **changes):
    """A policy that has learnt the chosen answers, so that they can only become less likely."""
    learnt = [
        Demonstration(
            prompt=pair.prompt, completion=pair.chosen, prompt_id=pair.prompt_id, cut=False
        )
        for pair in MORE_PAIRS
    ]
    run("sft", learnt, MORE_PROMPTS, {"loss": "nll"}, epochs=8, **changes)


def trained(run, name, guard, **changes):
    return run(name, MORE_PAIRS, MORE_PROMPTS, DISPLACING, guard=guard, **changes)


@pytest.mark.slow
def test_a_displaced_training_is_stopped_and_an_earlier_policy_taken(run, tmp_path, capsys):
    start_of(run)
    whole = trained(run, "whole", GUARD | {"action": "none"})
    assert capsys.readouterr().err.count("less likely") == 0
    assert "displaced_step" not in whole.metrics
    step = displaced_at(whole.log.to_dict("records"), GuardParams(**GUARD))
    assert step is not None
    assert 3 < step < len(whole.log)  # so that there are steps before it, and one behind it
    warned = trained(run, "warned", GUARD | {"action": "warn"})
    assert f"have become less likely by step {step}" in capsys.readouterr().err
    assert warned.metrics["displaced_step"] == step
    assert warned.log["loss"].tolist() == whole.log["loss"].tolist()
    stopped = trained(run, "stopped", GUARD)
    kept = last_good_step(step, GuardParams(**GUARD))
    assert kept > 0
    assert f"it stops, and the policy after step {kept} is taken" in capsys.readouterr().err
    assert (stopped.metrics["displaced_step"], stopped.metrics["kept_step"]) == (step, kept)
    assert stopped.log["step"].tolist() == list(range(1, step + 1))
    files = sorted(file.name for file in (tmp_path / "stopped").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    configs = [
        json.loads((tmp_path / name / "adapter_config.json").read_text())
        for name in ("stopped", "whole")
    ]
    assert configs[0] == configs[1]
    # of the policies that the run had, it is the one of that step
    one = weights(tmp_path / "stopped")
    saved = weights(tmp_path / "kept" / f"checkpoint-{kept}")
    assert all(torch.equal(one[name], saved[name]) for name in one)
    # the numbers are those of the policy that was taken
    last = stopped.log[stopped.log["step"] <= kept].tail(max(1, kept // 5))
    assert stopped.metrics["displaced_fall"] == pytest.approx(last[FALL].mean())


@pytest.fixture(autouse=True)
def checkpoints_of_the_stopped_run(tmp_path, monkeypatch):
    """What a run's folder held, since it is removed when the run ends."""
    original = TrainingRun.discard_checkpoints

    def kept(self):
        if "kept_step" in self.metrics:
            shutil.copytree(self.checkpoints, tmp_path / "kept", dirs_exist_ok=True)
        original(self)

    monkeypatch.setattr(TrainingRun, "discard_checkpoints", kept)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [True, False])
def test_displaced_from_the_beginning_the_start_is_taken(run, tmp_path, lora):
    changes = {} if lora else {"lora": None}
    start_of(run, **changes)
    guard = GUARD | {"steps": 3, "fall": 0.01}
    done = trained(run, "b", guard, **changes)
    assert (done.metrics["displaced_step"], done.metrics["kept_step"]) == (3, 0)
    one, two = weights(tmp_path / "sft"), weights(tmp_path / "b")
    assert all(torch.equal(one[name], two[name]) for name in one)
    done = trained(run, "c", guard | {"steps": 1}, **changes)
    assert (done.metrics["displaced_step"], done.metrics["kept_step"]) == (2, 1)
    two = weights(tmp_path / "c")
    assert not all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_that_was_killed_where_it_stops_stops_again(tmp_path):
    """Its log is in the checkpoint that it goes on from."""
    args = SimpleNamespace(output_dir=str(tmp_path))
    saved_policy(tmp_path, 0).mkdir()
    state = TrainerState(log_history=history([(1.0, 1.0)] * 2))
    control = TrainerControl()
    DisplacementGuard(GuardParams(**GUARD)).on_train_begin(args, state, control)
    assert control.should_training_stop
    assert policy_copy(tmp_path).is_dir()
    control = TrainerControl()
    DisplacementGuard(GuardParams(**(GUARD | {"action": "warn"}))).on_train_begin(
        args, state, control
    )
    assert not control.should_training_stop


def test_a_sharded_training_can_not_be_stopped(monkeypatch):
    refuse_sharded(GuardParams(**GUARD))
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UserError, match=r"train\.guard\.action is stop, .* set it to warn"):
        refuse_sharded(GuardParams(**GUARD))
    refuse_sharded(GuardParams(**(GUARD | {"action": "warn"})))


def test_early_stopping_and_the_guard_do_not_both_choose():
    with pytest.raises(ValueError, match=r"early_stopping and guard\.action = stop each choose"):
        train_params(held_out=0.1, early_stopping=2, guard=GUARD)


def test_other_limits_are_another_run(tmp_path):
    """The guard changes the policy, so a killed run with other limits isn't gone on with."""
    keys = {
        run_folder(tmp_path, {"params": train_params(guard=GUARD | {"fall": fall}).model_dump()})
        for fall in (0.1, 0.2)
    }
    assert len(keys) == 2
