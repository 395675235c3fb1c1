import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["generate", "train", "evaluate"])
def test_an_unknown_key_is_reported_in_one_sentence(stage):
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", "nobody"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "has no key 'nobody'; the keys there are" in last
    assert "Traceback" not in done.stderr
