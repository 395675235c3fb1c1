"""docs/new_metric.md, done to the letter in a workspace whose workflow has run."""

import json
import re

import pytest
from conftest import ROOT

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs/new_metric.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
YAML = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def workspace(finished_workspace, tmp_path_factory):
    return finished_workspace.copy_to(tmp_path_factory.mktemp("metric") / "workspace")


def insert(path, after, text):
    before = path.read_text()
    assert before.count(after) == 1
    path.write_text(before.replace(after, after + text))


def read(workspace, file):
    return (workspace.folder / file).read_text()


def test_the_page_adds_a_metric(workspace):
    pairs = read(workspace, "artifacts/pairs/persodpo.jsonl")
    (file,) = re.findall(r"\*\*1\. The file\*\* `(.*?)`", PAGE)
    (kinds,) = re.findall(r"\*\*2\. The line\*\*, in `(.*?)`", PAGE)
    module, line, entry = PYTHON
    (workspace.folder / file).write_text(module)
    insert(workspace.folder / kinds, "from persodpo.score.unieval import UniEval\n", line)
    insert(workspace.folder / kinds, "KINDS: dict[str, type[Scorer]] = {\n", entry)
    section, weight = YAML
    params = workspace.folder / "params.yaml"
    insert(params, "\nscorers:\n", section)
    forgotten = workspace.python("-m", "stages.pair")
    assert f"{file}: DVC doesn't watch it for the stage score" in forgotten
    output = workspace.run("bash", "-ec", COMMANDS)
    assert "generate" not in workspace.stages_run(output)
    assert "train" not in workspace.stages_run(output)

    # an audit metric: in the results, and not in the pairs
    assert "Overlap (audit) ↑" in read(workspace, "results/table1.md")
    assert "Overlap (audit) ↑" in read(workspace, "results/comparison.md")
    assert "Overlap (audit)" in read(workspace, "results/report.html")
    numbers = json.loads(read(workspace, "results/metrics.json"))
    assert all(0 <= values["overlap"] <= 1 for values in numbers.values())
    assert numbers["golden"]["overlap"] > 0
    assert read(workspace, "artifacts/pairs/persodpo.jsonl") == pairs
    assert "overlap" not in read(workspace, "artifacts/scored.jsonl")

    # with a weight it forms pairs, and no answer is scored again
    insert(params, "\n  weights:\n", weight)
    output = workspace.run("dvc", "repro", "pair")
    assert workspace.stages_run(output) == {"pair"}
    assert '"s_overlap"' in read(workspace, "artifacts/scored.jsonl")
    assert read(workspace, "artifacts/pairs/persodpo.jsonl") != pairs
