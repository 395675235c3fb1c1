"""Figures about pairs: the replay of the published logs, and what forming pairs costs.

    python -m benchmarks.pairing replay     the pairs of the published logs, against a recount
    python -m benchmarks.pairing changes    the same with one setting at a time as ours
    python -m benchmarks.pairing checks     what the checks say of them, and of match_length
    python -m benchmarks.pairing contract   failure ratios of the published validation responses
    python -m benchmarks.pairing stage      time and memory of the stage pair on them
    python -m benchmarks.pairing scale      time and memory on random pools of growing size

The logs are read from FOCUS_LOGS (../shared/focus_logs; a clone of the paper's repository has them
under other names, see persodpo/workflow/profiles.py).
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

from benchmarks import original_pairs, published
from persodpo.config.pair import PairingParams, ScoringParams
from persodpo.generate.run import generate_responses
from persodpo.pair.checks import check_numbers, valid_overlap
from persodpo.pair.numbers import pair_metrics
from persodpo.pair.pairing import form_pair_sets, pair_texts, select_pairs
from persodpo.pair.pool import evaluated_table
from persodpo.pair.scoring import fit_scale, score_table
from persodpo.prompts import parse_response
from persodpo.records import Evaluated, write_rows, write_text
from persodpo.sample.draw import sample_prompts
from persodpo.score import declared_metrics
from persodpo.score.run import score_responses
from persodpo.workflow.params import Params, load_params
from persodpo.workflow.profiles import profile_text

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
QUANTILES = [(0.4, 0.6), (0.1, 0.9), (0.25, 0.75), (0.5, 0.5), (0.3, 0.8), (0.0, 1.0)]


def replay_params(folder: Path) -> Params:
    """The replay profile on the published logs."""
    published.need(published.FOCUS_LOGS)
    path = folder / "params.yaml"
    write_text(path, profile_text("replay", published.FOCUS_LOGS.absolute()))
    return load_params(path)


def replay_pool(params: Params) -> pd.DataFrame:
    """All published responses with their values, by the functions that the stages call."""
    prompts, _ = sample_prompts(params.sample)
    rows = []
    for key in params.pool:
        responses = generate_responses(
            key, params.models[key], prompts, params.generate, params.sample.max_words
        ).responses
        scores = score_responses(prompts, responses, params.scorers, params.score.batch_tokens)
        rows += [Evaluated(response=r, score=s) for r, s in zip(responses, scores, strict=True)]
    return evaluated_table(rows, params.scorers)


def pair_sets(
    pool: pd.DataFrame, params: Params, scoring: ScoringParams, pairing: PairingParams
) -> tuple[pd.DataFrame, dict[Any, pd.DataFrame]]:
    """Scored table and pair sets of a pool."""
    metrics = declared_metrics(params.scorers)
    scale = fit_scale(pool, scoring, metrics, params.sample.max_words)
    table = score_table(pool, scale, scoring, metrics)
    return table, form_pair_sets(table, pairing, needed=())


def keys(pairs: pd.DataFrame, table: pd.DataFrame, params: Params) -> original_pairs.Pairs:
    """Pairs by what they are: prompt, file of the chosen and of the rejected response."""
    names = {key: Path(getattr(params.models[key], "file", "")).stem for key in params.pool}
    id_, model = table["id"].to_numpy(), table["model"].map(names).to_numpy()
    return {
        (int(id_[one]), model[one], model[two])
        for one, two in zip(pairs["chosen"], pairs["rejected"], strict=True)
    }


@app.command()
def replay() -> None:
    """The published logs through our functions and through the recount, pair by pair."""
    with tempfile.TemporaryDirectory() as folder:
        params = replay_params(Path(folder))
    pool = replay_pool(params)
    theirs = original_pairs.scored(original_pairs.read_logs(published.FOCUS_LOGS))
    for low, high in QUANTILES:
        pairing = params.pairing.model_copy(update={"low_quantile": low, "high_quantile": high})
        table, sets = pair_sets(pool, params, params.scoring, pairing)
        ours = keys(sets["persodpo"], table, params)
        counted = original_pairs.persodpo_pairs(theirs, low, high)
        typer.echo(f"quantiles {low}, {high}: {len(ours)} pairs, recount {len(counted)}, "
              f"in one only {len(ours ^ counted)}")  # fmt: skip
    ours, counted = keys(sets["dpo"], table, params), original_pairs.dpo_pairs(theirs)
    typer.echo(f"valid against invalid: {len(ours)} pairs, recount {len(counted)}, "
          f"in one only {len(ours ^ counted)}")  # fmt: skip


@app.command()
def checks() -> None:
    """The checks of the replay's pairs, the default's strategy on them, and match_length."""
    with tempfile.TemporaryDirectory() as folder:
        params = replay_params(Path(folder))
    pool = replay_pool(params)
    prompts, valid = sample_prompts(params.sample)
    margin = params.pairing.model_copy(update={"strategy": "margin", "margin": 0.1})
    found = {}
    for name, pairing in (("quantile", params.pairing), ("margin .1", margin)):
        for bound in (None, 0.2):
            matched = pairing.model_copy(update={"match_length": bound})
            table, sets = pair_sets(pool, params, params.scoring, matched)
            for which in ("dpo", "persodpo") if name == "quantile" and not bound else ("persodpo",):
                title = f"{which}, {name}{f', matched to {bound}' if bound else ''}"
                pairs, texts = sets[which], pair_texts(which, table, matched)
                words = [table["words"].iloc[pairs[side]].mean() for side in ("chosen", "rejected")]
                found[title] = {
                    "pairs": len(pairs),
                    "words": " / ".join(f"{each:.0f}" for each in words),
                    "median margin": pairs["margin"].median(),
                    **check_numbers(pairs, table, texts, params.scoring),
                }
    typer.echo(pd.DataFrame.from_dict(found, orient="index").to_markdown(floatfmt=".2f"))
    overlap = valid_overlap(prompts, valid)
    typer.echo(
        f"{overlap.share:.1%} of {len(valid)} validation dialogues are close to the training ones"
    )


@app.command()
def contract() -> None:
    """The rule `released` on the published validation responses, beside the authors' own table.

    A row of theirs belongs to a file only if it has the file's name; one more of theirs is of the
    training responses.
    """
    folder = published.need(published.FOCUS_LOGS / "valid_responses")
    table = published.need(published.FOCUS_LOGS / "evaluations.csv")
    stated = pd.read_csv(table, dtype=str).set_index("Model")["Failure Ratio"]
    for file in [
        *sorted(folder.glob("*.csv")), published.FOCUS_LOGS / "responses/Qwen2-5B-Instruct.csv",
    ]:  # fmt: skip
        raw = pd.read_csv(file, dtype=str, keep_default_na=False)["gen_response"]
        failed = sum(parse_response(text, "released").contract != "valid" for text in raw)
        counted = sum(not original_pairs.unwrap(text)[0] for text in raw)
        split = file.parent.name
        name = file.stem if split == "valid_responses" else f"{file.stem}-train"
        typer.echo(f"{split}/{file.stem}: {failed} of {len(raw)} fail, {failed / len(raw):.3f}; "
              f"recount {counted}; evaluations.csv: {stated.get(name, 'no such row')}")  # fmt: skip


@app.command()
def changes() -> None:
    """The replay's pairs, and with one setting at a time as this project has it by default."""
    with tempfile.TemporaryDirectory() as folder:
        params = replay_params(Path(folder))
    pool = replay_pool(params)
    default = load_params(Path("params.yaml"))
    scoring, pairing, mine = params.scoring, params.pairing, default.pairing
    strict = params.generate.model_copy(update={"contract": "strict"})
    variants: list[tuple[str, pd.DataFrame, ScoringParams, PairingParams]] = [
        ("released", pool, scoring, pairing),
        ("contract strict", replay_pool(params.model_copy(update={"generate": strict})), scoring,
         pairing),
        ("normalisation range", pool, scoring.model_copy(update={"normalisation": "range"}),
         pairing),
        ("weights a quarter", pool, scoring.model_copy(
            update={"weights": default.scoring.weights}), pairing),
        ("length quadratic", pool, scoring.model_copy(update={"length": default.scoring.length}),
         pairing),
        ("format bonus w2", pool, scoring.model_copy(update={"w2": default.scoring.w2}), pairing),
        ("text raw, unanswered kept", pool, scoring, pairing.model_copy(
            update={"text": "raw", "unanswered": "keep"})),
        (f"strategy margin, {mine.margin:g}", pool, scoring, pairing.model_copy(
            update={"strategy": "margin", "margin": mine.margin})),
        (f"strategy best_worst, {mine.margin:g}", pool, scoring, pairing.model_copy(
            update={"strategy": "best_worst", "margin": mine.margin})),
        ("all of ours", replay_pool(params.model_copy(update={"generate": strict})),
         default.scoring, mine),
    ]  # fmt: skip
    rows, first = [], None
    for name, responses, how, which in variants:
        table, sets = pair_sets(responses, params, how, which)
        ours = keys(sets["persodpo"], table, params)
        first = ours if first is None else first
        numbers = pair_metrics(sets["persodpo"], table)
        rows.append({
            "change": name, "dpo": len(sets["dpo"]), "persodpo": len(ours),
            "of the released": len(ours & first), "prompts": numbers["prompts"],
            "words chosen": numbers["words_chosen"], "words rejected": numbers["words_rejected"],
            "rejected invalid": numbers["rejected_invalid"],
            "margin": numbers["margin"]["median"],
        })  # fmt: skip
    typer.echo(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f", intfmt=","))
    logs = original_pairs.read_logs(published.FOCUS_LOGS)
    for name, how in (("rounded", {"rounded": False}), ("cut", {"cut_mean": False})):
        recount = original_pairs.persodpo_pairs(original_pairs.scored(logs, **how))
        typer.echo(
            f"recount, {name} no more: {len(recount)} pairs, {len(recount & first)} the same"
        )


@app.command()
def stage() -> None:
    """The stage script itself, in a process of its own, on files as other stages leave them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = replay_params(folder)
        prompts, valid = sample_prompts(params.sample)
        write_rows(folder / "artifacts/prompts/train.jsonl", prompts)
        write_rows(folder / "artifacts/prompts/valid.jsonl", valid)
        for key in params.pool:
            responses = generate_responses(
                key, params.models[key], prompts, params.generate, params.sample.max_words
            ).responses
            write_rows(folder / f"artifacts/responses/{key}.jsonl", responses)
            scores = score_responses(prompts, responses, params.scorers, params.score.batch_tokens)
            write_rows(folder / f"artifacts/scores/{key}.jsonl", scores)
        seconds, megabytes = run_pair_stage(folder)
        lines = {
            which: len((folder / f"artifacts/pairs/{which}.jsonl").read_bytes().splitlines())
            for which in ("dpo", "persodpo")
        }
    typer.echo(
        f"stages.pair: {lines}, {seconds:.1f} s, {megabytes:.0f} MB at its peak, start included"
    )


def run_pair_stage(folder: Path) -> tuple[float, float]:
    """Seconds and peak MB of the stage script in a folder, in a process without our imports."""
    # a process tells its peak in its last words
    code = (
        "import pathlib, stages.pair; stages.pair.main(); "
        "print(pathlib.Path('/proc/self/status').read_text())"
    )
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], check=True, cwd=folder, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    return time.perf_counter() - begin, _peak_megabytes(done.stdout)


@app.command()
def scale(
    prompts: list[int] = typer.Option([12_500, 25_000, 50_000, 100_000], help="Sizes."),  # noqa: B008
    models: int = 7,
) -> None:
    """Random pools by every strategy, each in a process of its own."""
    for n in prompts:
        for strategy in ("margin", "best_worst", "quantile", "valid_invalid"):
            command = [sys.executable, "-m", "benchmarks.pairing", "one"]
            subprocess.run([*command, str(n), str(models), strategy], check=True)  # noqa: S603


def _peak_megabytes(status: str) -> float:
    """A process's peak by its /proc/self/status; getrusage's goes on from what started it."""
    return int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0]) / 1024


def _own_peak() -> float:
    return _peak_megabytes(Path("/proc/self/status").read_text(encoding="utf-8"))


@app.command(hidden=True)
def one(prompts: int, models: int, strategy: str) -> None:
    """Score and pair one random pool."""
    rng, n = np.random.default_rng(0), prompts * models
    before = _own_peak()
    params = load_params(Path("params.yaml"))
    contract = rng.choice(["valid", "salvaged", "none"], n, p=[0.7, 0.28, 0.02])
    answers = np.array([f"answer {i}" for i in range(n)], dtype=object)
    pool = pd.DataFrame({
        "id": np.repeat([f"prompt {i}" for i in range(prompts)], models),
        "model": np.tile([f"model {i}" for i in range(models)], prompts), "sample": 0,
        "raw": answers, "contract": contract, "answer": answers, "valid": contract == "valid",
        "words": rng.integers(1, 100, n), "c": rng.integers(-1, 2, n).astype(float),
        "ue": rng.integers(0, 3, n).astype(float), "p": rng.random(n), "coh": rng.random(n),
    })  # fmt: skip
    metrics = declared_metrics(params.scorers)
    table = score_table(
        pool, fit_scale(pool, params.scoring, metrics, 110), params.scoring, metrics
    )
    table["text"] = table["raw"]
    pairing = PairingParams.model_validate(params.pairing.model_dump() | {"strategy": strategy})
    start = time.perf_counter()
    pairs = select_pairs(table, pairing.strategy, pairing)
    seconds = time.perf_counter() - start
    typer.echo(
        f"{n:,} responses, {strategy}: {len(pairs):,} pairs in {seconds:.1f} s; memory at its peak "
        f"{_own_peak() - before:.0f} MB above the {before:.0f} MB that the imports take"
    )


if __name__ == "__main__":
    app()
