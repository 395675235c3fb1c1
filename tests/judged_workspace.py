"""A workspace whose metrics are a judge's behind a server; shared by tests and benchmarks."""

from pathlib import Path
from typing import Any

from remote_workspace import ROOT, RemoteWorkspace, make_prompts, new_workspace

from persodpo.prompts import wrap_response
from persodpo.records import Response, Score, read_rows, write_rows

RUBRICS = ROOT / "data/rubrics"


def judge(mode: str, model: str = "remote") -> dict[str, Any]:
    """A section of scorers."""
    is_grade = mode == "grade"
    rubric = RUBRICS / f"persona_{'grade' if is_grade else 'pairwise'}.md"
    ends = {"low": 1, "high": 5} if is_grade else {"low": None, "high": None}
    return {"kind": "judge", "model": model, "rubric": str(rubric), "mode": mode} | ends


def judged_workspace(tmp_path: Path, url: str, n: int, **changes: Any) -> RemoteWorkspace:
    """A workspace with answers of a model whose only metrics are a judge's."""
    w = new_workspace(tmp_path, url, n, **changes)
    w.params["scorers"] = {mode: judge(mode) for mode in ("grade", "pairwise", "flips")}
    w.params["scoring"]["weights"] = {"grade": 1.0}
    w.params["models"]["golden"] = {"backend": "golden"}
    w.params["pool"] = ["golden", "smollm2_greedy"]
    w.write()
    answers = [
        Response(id=p.id, model="golden", raw=wrap_response(f"{p.id} {p.golden_answer}"),
                 contract="valid", answer=f"{p.id} {p.golden_answer}", words=2, seconds=None,
                 prompt_tokens=None, completion_tokens=None, finish_reason="golden",
                 served_model=None, system_fingerprint=None, request_key=None)
        for p in make_prompts(n)
    ]  # fmt: skip
    write_rows(w.folder / "artifacts/responses/golden.jsonl", answers)
    return w


SCORE = ("stages.score", "golden")


def values(w: RemoteWorkspace) -> list[dict[str, float | None]]:
    """What was scored."""
    rows = read_rows(w.folder / "artifacts/scores/golden.jsonl", Score)
    return [row.values for row in rows]
