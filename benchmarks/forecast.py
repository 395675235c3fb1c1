"""A forecast of what profiles/paper.yaml takes: tokens, FLOPs, GPU hours, dollars.

    python -m benchmarks.forecast    from the authors' published prompts, responses and scores

The profile itself was never run. This counts the tokens of the published texts (by SmolLM2's
tokenizer, since Qwen2's isn't here) and the pairs that the profile makes of the published
responses and scores. A token takes 2 FLOPs per weight forward, and 6 forward and backward (Kaplan
et al. 2020, section 2.1). The rate of a GPU is assumed, not measured: see SHARE and STEP.
"""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import typer

from benchmarks import training
from benchmarks.pairing import pair_sets, replay_params, replay_pool
from persodpo.config.models import OpenAIModel, TransformersModel
from persodpo.config.train import BASE, PairMethod
from persodpo.generate import AnswerCache, estimate_model
from persodpo.generate.local import ACCELERATOR_BATCH_SIZE
from persodpo.models.loading import load_tokenizer
from persodpo.pair.pairing import pair_texts
from persodpo.records import Prompt
from persodpo.sample.draw import sample_prompts
from persodpo.workflow.params import Params, load_params
from persodpo.workflow.profiles import profile_text

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo
# FLOPs a second of an H100 SXM by NVIDIA's data sheet, without sparsity.
RATES = {"float32": 67e12, "bfloat16": 989e12}
# Assumed: the share of that rate that is reached, and the seconds of one step of generation.
SHARE, STEP = 0.3, 0.03
# Weights by the model cards. UniEval is T5-large, which reads a text by its encoder alone.
WEIGHTS = {"qwen2_7b": 7.6e9, "mistral_7b": 7.2e9, "llama_31_8b": 8.0e9, "qwen2_05b": 0.49e9,
           "unieval": 24 * (4 * 1024**2 + 2 * 1024 * 4096), "bert": 0.11e9,
           "embedded": 0.033e9}  # fmt: skip


class Texts(NamedTuple):
    """Mean tokens of what models and scorers read."""

    prompt: float
    turns: float
    persona: float
    golden: float
    answer: float


class Work(NamedTuple):
    """A part of the workflow."""

    what: str
    flops: float
    seconds: float


def paper_params() -> Params:
    """The profile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_text(profile_text("paper", None))
        return load_params(path)


def published_pool(params: Params) -> tuple[list[Prompt], pd.DataFrame, Params]:
    """The published prompts, and the responses and scores of the profile's pool, by its rules."""
    with tempfile.TemporaryDirectory() as folder:
        replay = replay_params(Path(folder))
    generate = replay.generate.model_copy(update={"contract": params.generate.contract})
    replay = replay.model_copy(update={"pool": params.pool, "generate": generate})
    prompts, _ = sample_prompts(replay.sample)
    return prompts, replay_pool(replay), replay


def count_tokens(texts: list[str]) -> list[int]:
    """The tokens of each text."""
    tokenizer = load_tokenizer(training.SMOLLM2, None, training.KEY)
    return [len(ids) for ids in tokenizer(texts)["input_ids"]]


def set_sizes(params: Params) -> tuple[list[Prompt], pd.DataFrame, Texts]:
    """The prompts, pairs and tokens of each pair set, and mean tokens."""
    prompts, pool, replay = published_pool(params)
    table, sets = pair_sets(pool, replay, params.scoring, params.pairing)
    lengths = count_tokens([prompt.text for prompt in prompts])
    asked = {prompt.id: length for prompt, length in zip(prompts, lengths, strict=True)}
    prompt_tokens = table["id"].map(asked).to_numpy()
    rows = {}
    for which, pairs in sets.items():
        texts = pair_texts(which, table, params.pairing).fillna("")
        tokens = np.array(count_tokens(texts.tolist()))
        sides = pairs[["chosen", "rejected"]].to_numpy()
        shown = pd.DataFrame({"id": table["id"], "text": texts, "tokens": tokens})
        different = shown.iloc[pd.unique(sides.ravel())].drop_duplicates(["id", "text"])
        rows[which] = {
            "pairs": len(pairs),
            "tokens of an epoch": different["tokens"].sum()
            + sum(asked[id_] for id_ in different["id"].unique()),
            "pair by pair": (prompt_tokens + tokens)[sides].sum(),
        }
    means = Texts(
        prompt=float(np.mean(lengths)),
        turns=float(np.mean(count_tokens([" ".join(prompt.turns) for prompt in prompts]))),
        persona=float(np.mean(count_tokens([" ".join(prompt.persona) for prompt in prompts]))),
        golden=float(np.mean(count_tokens([prompt.golden_answer for prompt in prompts]))),
        answer=float(np.mean(count_tokens(table["raw"].tolist()))),
    )
    return prompts, pd.DataFrame.from_dict(rows, orient="index"), means


def generation(params: Params, means: Texts) -> Iterator[Work]:
    """The answers of the local models, of the base and of each method."""
    n_train, n_valid = params.sample.n_train, params.sample.n_valid
    local = [key for key in params.pool if isinstance(params.models[key], TransformersModel)]
    own = [n_valid] * (1 + len(params.train.methods))
    jobs_of = {key: [n_train, n_valid] for key in local} | {"qwen2_05b": own}
    for key, jobs in jobs_of.items():
        flops = 2 * WEIGHTS[key] * sum(jobs) * (means.prompt + means.answer)
        batches = sum(math.ceil(n / ACCELERATOR_BATCH_SIZE) for n in jobs)
        seconds = flops / (RATES["bfloat16"] * SHARE)
        seconds += batches * params.generate.max_tokens * STEP
        yield Work(f"generate: {key}, {sum(jobs):,} answers", flops, seconds)


def scores(params: Params, means: Texts) -> Iterator[Work]:
    """The scorers on pool, baselines and methods, and on the audit's exchanged answers."""
    n_train, n_valid = params.sample.n_train, params.sample.n_valid
    candidates = len(params.evaluate.baselines) + len(params.train.methods)
    judged = n_train * len(params.pool) + n_valid * (candidates + 1 + params.audit.others)
    # C reads the persona and an answer; UE these, and the golden answer and the answer
    pairs_of_texts = 2 * (means.persona + means.answer) + means.golden + means.answer
    for name, weights, tokens in (
        ("coh (UniEval)", WEIGHTS["unieval"], means.turns + means.answer),
        ("c and ue (BERT)", WEIGHTS["bert"], pairs_of_texts),
        ("audit metrics (embedded)", WEIGHTS["embedded"], pairs_of_texts),
    ):
        flops = 2 * weights * judged * tokens
        yield Work(f"score: {name}, {judged:,} answers", flops, flops / RATES["float32"] / SHARE)


def trainings(params: Params, sets: pd.DataFrame, means: Texts) -> Iterator[Work]:
    """The trainings, with the reference's pass where no earlier one has made it."""
    known = set()
    for key, method in params.train.methods.items():
        tokens = params.sample.n_train * (means.prompt + means.golden)
        passes = 6 * params.train.epochs
        if isinstance(method, PairMethod):
            tokens = sets.loc[method.data, "tokens of an epoch"]
            passes += 2 * ((method.start, method.data) not in known)
            known.add((method.start, method.data))
        flops = passes * WEIGHTS["qwen2_05b"] * tokens
        start = "" if method.start == BASE else f" from {method.start}"
        yield Work(f"train: {key}{start}", flops, flops / RATES["float32"] / SHARE)


@app.command()
def main() -> None:
    """Print the forecast."""
    params = paper_params()
    prompts, sets, means = set_sizes(params)
    echo(sets.to_markdown(intfmt=",", floatfmt=",.0f"))
    echo(f"mean tokens: {', '.join(f'{k} {v:.0f}' for k, v in means._asdict().items())}\n")
    cache = AnswerCache()
    for key in params.pool:
        model = params.models[key]
        if isinstance(model, OpenAIModel):
            found = estimate_model(key, model, prompts, params.generate, params.sample.max_words,
                                   cache, None, None)  # fmt: skip
            echo(f"{key}: {found.calls:,} calls, at most {found.cost_usd:.2f} dollars")
    work = [*generation(params, means), *scores(params, means), *trainings(params, sets, means)]
    table = pd.DataFrame(work).rename(columns={"flops": "PFLOP"})
    table["PFLOP"] /= 1e15
    table["hours, one H100"] = table.pop("seconds") / 3600
    table.loc[len(table)] = ["all", *table[["PFLOP", "hours, one H100"]].sum()]
    table["hours, eight"] = table["hours, one H100"] / 8
    echo("\n" + table.to_markdown(index=False, floatfmt=(None, ",.0f", ".2f", ".3f")))
    echo("\nA forecast: nothing of it was run. It takes eight GPUs to be eight times as fast, and "
         "scores and trainings to compute in float32. It leaves out the loading of models, the "
         "audit's answers to opposites, and the training of the two BERT classifiers.")  # fmt: skip


if __name__ == "__main__":
    app()
