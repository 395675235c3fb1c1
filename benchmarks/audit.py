"""What the audit says of the default's metrics, and whether it notices metrics that are none.

    python -m benchmarks.audit show                      # on all embedded validation dialogues
    python -m benchmarks.audit show --focus 500          # on published prompts of FoCUS
    python -m benchmarks.audit show --nli nli/models/minilm_snli --aggregate joint
    python -m benchmarks.audit flags --focus 500         # spoilt metrics, and the published values

The embedded dialogues are in this repository; published prompts and values are looked for in
../shared/focus_logs, or where FOCUS_LOGS says.
"""

import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import typer

from benchmarks.published import FOCUS_LOGS, METRICS, need
from persodpo.audit import audit_flags, audit_metrics, repeats
from persodpo.config.audit import AuditParams
from persodpo.records import Prompt
from persodpo.report.audit import audit_table
from persodpo.report.tables import markdown
from persodpo.sample import sample_prompts
from persodpo.sample.readers import read_dialogues
from persodpo.score import Metric, Scorer, declared_metrics
from persodpo.workflow import load_params

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
Focus = Annotated[
    int | None, typer.Option(help="So many published validation prompts in the place of ours.")
]
BATCH_TOKENS = 2048


def validation_prompts(focus: int | None) -> list[Prompt]:
    """All embedded validation dialogues, or so many published ones, as the stage draws them."""
    sample = load_params().sample
    changes: dict[str, object] = {"n_train": 1, "max_words": 110, "overlap": "leave_out"}
    if focus is None:
        changes["n_valid"] = len(read_dialogues(Path(sample.valid_file)))
    else:
        folder = need(FOCUS_LOGS / "prompts")
        changes |= {
            "train_file": str(folder / "train.csv"),
            "valid_file": str(folder / "valid.csv"),
            "n_valid": focus,
        }
    return sample_prompts(sample.model_copy(update=changes))[1]


@app.command()
def show(
    focus: Focus = None,
    nli: Annotated[
        str | None, typer.Option(help="Another classifier behind C, UE and the use of the persona.")
    ] = None,
    aggregate: Annotated[str | None, typer.Option(help="Another aggregate of C and UE.")] = None,
) -> None:
    """The audit of the metrics in params.yaml."""
    params = load_params()
    scorers = {
        key: scorer.model_copy(
            update={
                name: value
                for name, value in (("model", nli), ("aggregate", aggregate))
                if value is not None and "labels" in type(scorer).model_fields
                if name in type(scorer).model_fields
            }
        )
        for key, scorer in params.scorers.items()
    }
    began = time.perf_counter()
    findings = audit_metrics(validation_prompts(focus), scorers, params.audit, BATCH_TOKENS)
    typer.echo(markdown(audit_table(findings, declared_metrics(scorers)), "Metric"))
    for key, reasons in audit_flags(findings).items():
        for reason in reasons:
            typer.echo(f"{key} {reason}")
    typer.echo(f"({time.perf_counter() - began:.0f} s, with what is in .cache/judgements)")


class Spoilt(Scorer):
    """P, or what somebody could take for it."""

    kind: Literal["spoilt"] = "spoilt"
    how: Literal["as it is", "shuffled", "constant", "length"]

    def metric(self) -> Metric:
        """See `Scorer.metric`."""
        return Metric(f"P, {self.how}", low=0, high=1, worst=0, version=1, needs=("persona",))

    def values(self, key, prompts, responses, batch_tokens):  # type: ignore[no-untyped-def]
        """See `Scorer.values`."""
        if self.how == "constant":
            return [0.5] * len(responses)
        if self.how == "length":
            return [min(response.words / 110, 1) for response in responses]
        values = load_params().scorers["p"].values(key, prompts, responses, batch_tokens)
        if self.how == "shuffled":
            np.random.default_rng(0).shuffle(values)
        return values


@app.command()
def flags(focus: Focus = None) -> None:
    """What the audit says of metrics that are none, and of the published values."""
    hows: tuple[Literal["as it is", "shuffled", "constant", "length"], ...]
    hows = ("as it is", "shuffled", "constant", "length")
    scorers: dict[str, Scorer] = {how: Spoilt(how=how) for how in hows}
    params = AuditParams(others=3, opposites=None, seed=0)
    findings = audit_metrics(validation_prompts(focus), scorers, params, BATCH_TOKENS)
    flagged = audit_flags(findings)
    for how in scorers:
        typer.echo(f"P, {how}: {'; '.join(flagged.get(how, ['passes']))}")
    for file in sorted(need(FOCUS_LOGS / "metrics").glob("*.csv")):
        table = pd.read_csv(file)
        valid = table[table[METRICS["coh"]] > 0]  # a failed response has 0
        for column in METRICS.values():
            found = repeats(valid[column].astype(float).fillna(0).tolist())
            if found is not None:
                typer.echo(
                    f"{column} of {file.stem}: {found[1]:.0%} of the values are those of "
                    f"{found[0]} answers further on; chance makes {found[2]:.1%}"
                )
    typer.echo("No other published column repeats itself.")


if __name__ == "__main__":
    app()
