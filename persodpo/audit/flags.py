"""Which metrics don't pass the audit, and why, in one sentence each."""

import pandas as pd

# What a metric is named for; of the other questions the audit shows the numbers only.
MAIN = {
    "persona": "the golden answer under its own persona from the same under another one",
    "turns": "the golden answer after its own turns from the same after others",
    "opposites": "an answer that agrees with a persona sentence from one that contradicts it",
}


def audit_flags(findings: pd.DataFrame) -> dict[str, list[str]]:
    """Why metrics don't pass.

    Opposites count for the metrics that call answers contradictions, since others aren't named
    for that.

    Args:
        findings: What `persodpo.audit.run.audit_metrics` gives.

    Returns:
        By metric that doesn't pass, the ends of sentences that begin with its name.
    """
    calls = set(findings.loc[findings["measure"] == "called", "metric"])
    flags: dict[str, list[str]] = {}
    for row in findings.to_dict("records"):
        verdict = row["verdict"]
        reason = None
        if verdict == "constant":
            reason = "has the same value for every answer, whatever the persona and the turns"
        elif verdict == "is length":
            reason = f"follows the answer's length (rank correlation {row['value']:+.2f})"
        elif row["measure"] == "auc" and row["question"] in MAIN and verdict != "sees it":
            if row["question"] == "opposites" and row["metric"] not in calls:
                continue
            inverted = " (it is the wrong way round)" if verdict == "wrong way round" else ""
            ends = "" if pd.isna(row["low"]) else f" [{row['low']:.2f}, {row['high']:.2f}]"
            reason = (
                f"can't tell {MAIN[row['question']]}: AUC {row['value']:.2f}{ends}, where .5 is "
                f"chance{inverted}"
            )
        if reason is not None:
            flags.setdefault(row["metric"], []).append(reason)
    return flags


def value_flags(numbers: dict[str, dict[str, object]]) -> dict[str, list[str]]:
    """The same for what the values of a pool show (`persodpo.pair.value_numbers`)."""
    flags: dict[str, list[str]] = {}
    for key, each in numbers.items():
        reasons = []
        if each.get("commonest") == 1:
            reasons.append("has the same value for every valid answer of the pool")
        if each.get("length"):
            reasons.append(
                f"follows the answers' length in the pool (rank correlation {each['words']:+.2f})"
            )
        repeats = each.get("repeats")
        assert repeats is None or isinstance(repeats, dict)
        for model, found in (repeats or {}).items():
            reasons.append(
                f"repeats itself in the answers of {model}: {found['share']:.0%} of its values are "
                f"those of {found['distance']:.0f} answers further on, and chance makes "
                f"{found['chance']:.0%}"
            )
        if reasons:
            flags[key] = reasons
    return flags
