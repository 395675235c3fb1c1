"""Figures about the scorers: arithmetic, agreement with published values, accuracy, speed.

    python -m benchmarks.scorers unieval      Coh-UniEval against its formula, on a tiny T5
    python -m benchmarks.scorers distance     P against the published Persona Distance
    python -m benchmarks.scorers nli          minilm_snli of nli/ on held-out SNLI and on SICK
    python -m benchmarks.scorers curve        the same trained on a quarter, a half, all pairs
    python -m benchmarks.scorers agreement    C and UE against the published values
    python -m benchmarks.scorers speed        all four metrics against a loop as in the original

Each prints its figures; a speed is a ratio of two things measured in the same run. Published
responses and values are read from FOCUS_LOGS (../shared/focus_logs; a clone of the paper's
repository has them), sentence pairs from NLI_DATA (../shared/nli: snli.csv, sick.csv).
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import typer
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from benchmarks import published
from benchmarks.original_scorers import original_loop
from persodpo.prompts import wrap_response
from persodpo.records import Prompt, Response, Score
from persodpo.score import Scorer, declared_metrics
from persodpo.score.judges.nli import class_name
from persodpo.score.judges.unieval import UniEvalJudge, fit, question
from persodpo.score.judges.word_vectors import WordVectorJudge, load_word_vectors
from persodpo.score.persona_distance import PersonaDistance
from persodpo.score.run import score_responses
from persodpo.score.train_nli.pairs import load_pairs
from persodpo.score.train_nli.params import ClassifierParams, load_nli_params
from persodpo.score.train_nli.training import measure, train_classifier
from persodpo.score.unieval import UniEval
from persodpo.workflow.params import load_params

sys.path.append("tests")
from tiny_models import corpus, make_t5

NLI_DATA = Path(os.environ.get("NLI_DATA", "../shared/nli"))
# The classifier of nli/ that the embedded judge of personas goes on from.
PLAIN = "minilm_snli"
PLAIN_FOLDER = f"nli/models/{PLAIN}"

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
echo = typer.echo


@app.command()
def unieval(inputs: int = 100, limit: int = 160) -> None:
    """Our Coh-UniEval against a plain transcription of the formula, item by item."""
    rng = random.Random(0)  # noqa: S311
    words = [word for text in corpus() for word in text.split()]

    def text(most: int) -> str:
        return " ".join(rng.choices(words, k=rng.randint(1, most)))

    items = [(text(30), *(text(20) for _ in range(rng.randint(1, 8)))) for _ in range(inputs)]
    with tempfile.TemporaryDirectory() as folder:
        make_t5(Path(folder))
        expected = [_transcribed(Path(folder), item) for item in items]
        for size in (1, 500, 10_000):
            judge = UniEvalJudge(folder, None, size, "model")
            for order in ("as drawn", "reversed", "shuffled"):
                asked = {"as drawn": items, "reversed": items[::-1],
                         "shuffled": rng.sample(items, len(items))}[order]  # fmt: skip
                judged = dict(row for batch in judge(asked) for row in batch)
                worst = max(abs(judged[item][0] - e)
                            for item, e in zip(items, expected, strict=True))  # fmt: skip
                echo(f"batches of {size:5} tokens, {order:8}: largest difference {worst:.1e}")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        fitted = [fit(turns, response, tokenizer, limit) for response, *turns in items]
        longer = sum(k != question(turns, response)
                     for k, (response, *turns) in zip(fitted, items, strict=True))  # fmt: skip
        newest = sum(k.strip().endswith(item[-1]) for k, item in zip(fitted, items, strict=True))
        echo(f"limit {limit} tokens: {longer} of {inputs} inputs are cut; the newest turn survives "
             f"whole in {newest} of {inputs}")  # fmt: skip


@torch.inference_mode()
def _transcribed(folder: Path, item: tuple[str, ...]) -> float:
    """P(Yes) / (P(Yes) + P(No)), one input at a time, by nothing but transformers."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    response, *turns = item
    source = (
        "question: Is this a coherent response given the dialogue history? </s> response: "
        + response + " </s> dialogue history: " + "\n".join(turns) + "\n\n"
    )  # fmt: skip
    logits = model(
        **tokenizer(source, return_tensors="pt"),
        decoder_input_ids=torch.tensor([[model.config.decoder_start_token_id]]),
    ).logits
    p = logits[0, 0].softmax(-1)
    yes, no = p[tokenizer("Yes").input_ids[0]], p[tokenizer("No").input_ids[0]]
    return float(yes / (yes + no))


def _vectors() -> str:
    p = load_params().scorers["p"]
    assert isinstance(p, PersonaDistance)
    return p.vectors


@app.command()
def distance() -> None:
    """P on published responses: Spearman's correlation with the published Persona Distance."""
    prompts = published.prompts("train")
    judge = WordVectorJudge(load_word_vectors(_vectors(), "scorers.p.vectors"))
    tables = []
    for model in ("gpt-4o-mini", "Llama3-1-8B-Instruct"):
        table = published.scored_responses(model)
        pairs = [(prompts[row.prompt].persona[0], row.answer) for row in table.itertuples()]
        judged = dict(next(judge(pairs)))
        table["ours"] = [judged[pair][0] if judged[pair] else np.nan for pair in pairs]
        tables.append(table)
        _echo_correlation(model, table)
    _echo_correlation("both together", pd.concat(tables))


def _echo_correlation(name: str, table: pd.DataFrame) -> None:
    known = table.dropna(subset="ours")
    rho = spearmanr(known["ours"], known["p"]).statistic
    echo(f"{name}: {len(known)} valid responses, {len(table) - len(known)} without a value, "
         f"Spearman {rho:.3f}")  # fmt: skip


@app.command()
def nli(model: str = PLAIN_FOLDER) -> None:
    """Accuracy on SNLI pairs that it wasn't trained on, and on SICK, with 95 % intervals."""
    train, test = _snli()
    both = set(train["premise"]) & set(test["premise"])
    echo(
        f"SNLI: {len(train)} pairs to train on, {len(test)} held out, {len(both)} premises in both"
    )
    _echo_accuracy("held-out SNLI", measure(model, None, test))
    sick = pd.read_csv(published.need(NLI_DATA / "sick.csv"), dtype=str, keep_default_na=False)
    sick["label"] = sick["label"].map(class_name)
    _echo_accuracy("SICK, never trained on", measure(model, None, sick))


def _snli() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs that the embedded classifier was trained on, and those held out."""
    published.need(NLI_DATA / "snli.csv")
    return load_pairs(_params(folder=str(NLI_DATA)), Path())


def _params(**changes: object) -> ClassifierParams:
    return load_nli_params().classifiers[PLAIN].model_copy(update=changes)


def _echo_accuracy(name: str, numbers: dict) -> None:
    f1 = ", ".join(f"{label} {value:.3f}" for label, value in numbers["f1"].items())
    echo(f"{name}: {numbers['pairs']} pairs, accuracy {numbers['accuracy']:.3f} "
         f"({numbers['accuracy_low']:.3f} to {numbers['accuracy_high']:.3f}); F1 {f1}")  # fmt: skip


@app.command()
def curve() -> None:
    """What more data brings: the embedded classifier's training on a quarter, a half and all."""
    train, test = _snli()
    shuffled = train.sample(frac=1, random_state=0)
    for share in (0.25, 0.5, 1.0):
        part = shuffled.head(round(share * len(train)))
        with tempfile.TemporaryDirectory() as folder:
            train_classifier(part, _params(), Path(folder, "model"))
            _echo_accuracy(f"trained on {len(part)}", measure(f"{folder}/model", None, test))


@app.command()
def agreement(first: int = 300, show: int = 0, seed: int = 0) -> None:
    """The default's metrics against the published values: seven models, the first prompts."""
    prompts = published.prompts("train", joined=False)
    tables = []
    for model in published.models():
        table = published.scored_responses(model)
        table = table[table["prompt"] < first].reset_index(drop=True)
        responses = [_response(str(row.prompt), model, row.answer) for row in table.itertuples()]
        scores = _score(prompts, responses, load_params().scorers)
        for key in published.METRICS:
            table[f"our_{key}"] = [score.values[key] for score in scores]
        tables.append(table.assign(model=model))
    table = pd.concat(tables, ignore_index=True)
    # a graded value as what it says: contradicted, neither, used
    used_above = declared_metrics(load_params().scorers)["c"].used_above or 0.0
    table["our_c"] = np.where(table["our_c"] < 0, -1, (table["our_c"] > used_above).astype(int))
    for key in ("c", "ue"):
        echo(f"\n{key.upper()} of {len(table)} valid responses, rows published, columns ours")
        echo(pd.crosstab(table[key], table[f"our_{key}"]).to_markdown())
        same = (table[key] == table[f"our_{key}"]).mean()
        kappa = cohen_kappa_score(table[key].astype(int), table[f"our_{key}"].astype(int))
        echo(f"the same {same:.3f}, kappa {kappa:.3f}")
    for key in ("coh", "p"):
        rho = spearmanr(table[key], table[f"our_{key}"].astype(float), nan_policy="omit").statistic
        echo(f"{key}: Spearman {rho:.3f} with the published values")
    echo(f"published Coh-UniEval above .9: {(table['coh'] > 0.9).mean():.3f}")
    differ = table[table["c"] != table["our_c"]].sample(show, random_state=seed)
    for row in differ.itertuples():
        prompt = prompts[row.prompt]
        echo(f"\n{row.model}, prompt {row.prompt}: published C {row.c:g}, ours {row.our_c:g}\n"
             f"  persona: {' '.join(prompt.persona)}\n  last turn: {prompt.turns[-1]}\n"
             f"  answer: {row.answer}")  # fmt: skip


def _response(id_: str, model: str, answer: str) -> Response:
    return Response(
        id=id_, model=model, raw=wrap_response(answer), contract="valid", answer=answer,
        words=len(answer.split()), seconds=None, prompt_tokens=None, completion_tokens=None,
        finish_reason="logged", served_model=None, system_fingerprint=None, request_key=None,
    )  # fmt: skip


@app.command()
def speed(responses: int = 1000, unieval: int = 150) -> None:
    """All four metrics of published responses, against one text at a time as in the original.

    Once with Coh-MiniLM, and for some responses with UniEval's question in the place
    of Coh-MiniLM, on random weights in the shape of T5 v1.1 small (the real ones are 3 GB).
    """
    prompts = published.prompts("train")
    tables = [published.scored_responses(model).assign(model=model) for model in published.models()]
    # the pool's answers to the first prompts, as the stages see them
    table = pd.concat(tables).sort_values(["prompt", "model"], kind="stable").head(responses)
    rows = [_response(str(row.prompt), row.model, row.answer) for row in table.itertuples()]
    params = _plain(load_params().scorers)
    with tempfile.TemporaryDirectory() as folder:
        _compare("with Coh-MiniLM", prompts, rows, params, f"{folder}/1")
        make_t5(Path(folder, "t5"), vocabulary=8000, d_model=512, d_kv=64, d_ff=1024, num_layers=8,
                num_heads=6, feed_forward_proj="gated-gelu")  # fmt: skip
        asked = params | {"coh": UniEval(kind="unieval", model=f"{folder}/t5", revision=None)}
        _compare("with UniEval's question", prompts, rows[:unieval], asked, f"{folder}/2")


def _plain(scorers: dict[str, Scorer]) -> dict[str, Scorer]:
    """Coh, C, UE and P as the original has them: one judgement of the joined persona."""
    published.need(Path(PLAIN_FOLDER))
    changes = {"model": PLAIN_FOLDER, "aggregate": "joint"}
    return {
        key: scorers[key].model_copy(update=changes if key in ("c", "ue") else {})
        for key in published.METRICS
    }


def _score(prompts: list[Prompt], rows: list[Response], scorers: dict[str, Scorer]) -> list[Score]:
    return score_responses(prompts, rows, scorers, load_params().score.batch_tokens)


def _compare(
    name: str, prompts: list[Prompt], rows: list[Response], params: dict[str, Scorer], cache: str
) -> None:
    """Time the loop and ours, and compare their scores."""
    begin = time.perf_counter()
    loop = original_loop(params)
    theirs = loop([prompts[int(row.id)] for row in rows], rows)
    loop_seconds = time.perf_counter() - begin
    os.environ["DVC_ROOT"] = cache  # no judgement is kept from before
    begin = time.perf_counter()
    ours = _score(prompts, rows, params)
    seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    assert _score(prompts, rows, params) == ours
    kept_seconds = time.perf_counter() - begin
    values = pd.DataFrame([score.values for score in ours])[list(theirs.columns)]
    echo(f"{name}: loop {len(rows) / loop_seconds:.2f} responses a second over {len(rows)}, "
         f"ours {len(rows) / seconds:.2f}, loading included in both: "
         f"{loop_seconds / seconds:.2f} times the loop; from kept judgements "
         f"{len(rows) / kept_seconds:.0f} a second")  # fmt: skip
    for key in theirs:
        gap = (values[key].astype(float) - theirs[key]).abs()
        echo(f"  {key}: largest difference {gap.max():.1e}, {values[key].isna().sum()} without "
             f"a value, {values[key].nunique()} different ones")  # fmt: skip


if __name__ == "__main__":
    app()
