"""What the package sets before anything else is imported."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


def environment_of_torch(module: str, **settings: str) -> str:
    """What libgomp says of itself when torch loads it."""
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    env |= {"OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": str(ROOT)} | settings
    command = [sys.executable, "-c", f"import {module}, torch; torch.ones(9).sum()"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", ["stages.generate", "stages.train", "persodpo.cli"])
def test_threads_spin_for_microseconds_only(module):
    settings_read = environment_of_torch(module)
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in settings_read
    assert "GOMP_SPINCOUNT = '5000'" in settings_read


@pytest.mark.slow
def test_a_users_own_setting_stays():
    settings_read = environment_of_torch("stages.train", OMP_WAIT_POLICY="ACTIVE")
    assert "OMP_WAIT_POLICY = 'ACTIVE'" in settings_read
    assert "GOMP_SPINCOUNT = '5000'" not in settings_read
    assert "GOMP_SPINCOUNT = '77'" in environment_of_torch("stages.train", GOMP_SPINCOUNT="77")
