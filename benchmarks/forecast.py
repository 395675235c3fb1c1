"""A forecast of what profiles/paper.yaml takes, which was never run: tokens, FLOPs, GPU hours.

    python -m benchmarks.forecast            from the authors' published prompts and responses
    python -m benchmarks.forecast --measure    first how near the training here comes to a matrix
                                             product's speed, which takes two minutes

Counted are the tokens of the published texts (by SmolLM2's tokenizer, since Qwen2's isn't here) and
the pairs that the profile makes of the published responses and scores. A token takes 2 FLOPs per
weight forward and 6 forward and backward (Kaplan et al. 2020, section 2.1). Assumed is that a GPU
reaches SHARE of its data sheet's rate, and that a step of generation takes STEP seconds. What the
servers cost says `python -m persodpo estimate`.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer

from benchmarks import training
from benchmarks.pairing import pair_sets, replay_params, replay_pool
from persodpo.models.loading import load_tokenizer
from persodpo.pair.pairing import pair_texts
from persodpo.sample.draw import sample_prompts
from persodpo.workflow.params import Params, load_params
from persodpo.workflow.profiles import profile_text

app = typer.Typer(help=__doc__, rich_markup_mode=None, pretty_exceptions_enable=False)
echo = typer.echo
# An H100 SXM by NVIDIA's data sheet, without sparsity.
RATES = {"float32": 67e12, "bfloat16": 989e12}
SHARE = 0.3
# Seconds of one step of generation by transformers, and answers at once.
STEP, AT_ONCE = 0.03, 64
# Weights by the model cards.
WEIGHTS = {"qwen2_7b": 7.6e9, "mistral_7b": 7.2e9, "llama_31_8b": 8.0e9, "qwen2_05b": 0.49e9,
           "unieval": 0.77e9, "bert": 0.11e9}  # fmt: skip


def paper_params() -> Params:
    """The profile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_text(profile_text("paper", None))
        return load_params(path)


def training_tokens(params: Params) -> tuple[pd.DataFrame, dict[str, float]]:
    """Tokens of each pair set, and the mean tokens of a prompt, an answer, a persona sentence."""
    with tempfile.TemporaryDirectory() as folder:
        replay = replay_params(Path(folder))
    replay = replay.model_copy(update={"pool": params.pool})
    prompts, _ = sample_prompts(replay.sample)
    tokenizer = load_tokenizer(training.SMOLLM2, None, training.KEY)

    def count(texts: list[str]) -> list[int]:
        return [len(ids) for ids in tokenizer(texts)["input_ids"]]

    asked = dict(zip([p.id for p in prompts], count([p.text for p in prompts]), strict=True))
    pool = replay_pool(replay)
    table, sets = pair_sets(pool, replay, params.scoring, params.pairing)
    rows = {}
    for which, pairs in sets.items():
        shown_as = pair_texts(which, table, params.pairing)
        tokens = pd.Series(count(shown_as.fillna("").tolist()), index=table.index)
        used = pd.unique(pairs[["chosen", "rejected"]].to_numpy().ravel())
        shown = pd.DataFrame({"id": table["id"], "text": shown_as, "tokens": tokens}).iloc[used]
        different = shown.drop_duplicates(["id", "text"])
        prompt = table["id"].map(asked)
        rows[which] = {
            "pairs": len(pairs),
            "tokens of an epoch": different["tokens"].sum()
            + sum(asked[id_] for id_ in different["id"].unique()),
            "pair by pair": sum(
                (prompt.iloc[pairs[side]].sum() + tokens.iloc[pairs[side]].sum())
                for side in ("chosen", "rejected")
            ),
        }
    sentences = [sentence for p in prompts for sentence in p.persona]
    texts = {"prompt": [prompt.text for prompt in prompts], "answer": table["raw"].tolist(),
             "sentence": sentences}  # fmt: skip
    means = {name: float(np.mean(count(each))) for name, each in texts.items()}
    return pd.DataFrame.from_dict(rows, orient="index"), means


def measured_share(prompts: int = 4) -> float:
    """The training's FLOPs a second here, as a share of those of a product of large matrices."""
    pairs, prompt_rows = training.replay_pairs(prompts)
    with tempfile.TemporaryDirectory() as folder, training.counted_tokens() as counted:
        trainer = training.our_trainer(pairs, prompt_rows, Path(folder), torch.float32, 1)
        weights = sum(parameter.numel() for parameter in trainer.model.parameters())
        counted["tokens"] = 0
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
    # of the frozen weights no gradient is computed: 4 FLOPs, and not 6
    reached = 4 * weights * counted["tokens"] / seconds
    matrix = torch.randn(3000, 3000)
    matrix @ matrix
    begin = time.perf_counter()
    for _ in range(5):
        matrix @ matrix
    return reached / (5 * 2 * 3000**3 / (time.perf_counter() - begin))


def model_rows(params: Params, means: dict[str, float]) -> Iterator[tuple[str, float, float]]:
    """Name, FLOPs and hours of generation and scores."""
    n_train, n_valid = params.sample.n_train, params.sample.n_valid
    methods = params.train.methods
    local = [key for key in params.pool if params.models[key].backend == "transformers"]
    # the base and each method answer the validation prompts, too
    generated = dict.fromkeys(local, n_train + n_valid) | {
        "qwen2_05b": n_valid * (1 + len(methods))
    }
    for key, n in generated.items():
        flops = 2 * WEIGHTS[key] * n * (means["prompt"] + means["answer"])
        seconds = flops / (RATES["bfloat16"] * SHARE)
        seconds += n / AT_ONCE * params.generate.max_tokens * STEP
        yield f"generate: {key}, {n:,} answers", flops, seconds / 3600
    judged = n_train * len(params.pool) + n_valid * (1 + len(local) + len(methods))
    # C judges each of five sentences, UE the persona and the golden answer
    texts = 5 * (means["sentence"] + means["answer"]) + 7 * means["answer"]
    judging = {
        "coh (UniEval)": WEIGHTS["unieval"] * (means["prompt"] + means["answer"]),
        "c and ue (BERT)": WEIGHTS["bert"] * texts,
    }
    for name, each in judging.items():
        flops = 2 * judged * each
        yield f"score: {name}, {judged:,} answers", flops, flops / RATES["float32"] / SHARE / 3600


def training_rows(
    params: Params, sets: pd.DataFrame, means: dict[str, float]
) -> Iterator[tuple[str, float, float]]:
    """Name, FLOPs and hours of the trainings."""
    for key, method in params.train.methods.items():
        if method.data == "golden":
            tokens = params.sample.n_train * (means["prompt"] + means["answer"])
            passes = 6 * params.train.epochs
        else:
            tokens = sets.loc[method.data, "tokens of an epoch"]
            passes = 6 * params.train.epochs + 2  # and one of the reference model
        flops = passes * WEIGHTS["qwen2_05b"] * tokens
        name = f"train: {key}, {params.train.epochs:g} epochs"
        yield name, flops, flops / RATES["float32"] / SHARE / 3600


@app.command()
def main(
    measure: Annotated[bool, typer.Option("--measure", help="Measure the share here.")] = False,
) -> None:
    """Print the forecast."""
    if measure:
        echo(f"training here reaches {measured_share():.0%} of the speed of a matrix product here")
    params = paper_params()
    sets, means = training_tokens(params)
    echo(sets.to_markdown(intfmt=",", floatfmt=",.0f"))
    echo(f"mean tokens: {', '.join(f'{name} {mean:.0f}' for name, mean in means.items())}\n")
    rows = [*model_rows(params, means), *training_rows(params, sets, means)]
    table = pd.DataFrame(rows, columns=["what", "PFLOP", "hours, one H100"])
    table["PFLOP"] /= 1e15
    table.loc[len(table)] = ["all", table["PFLOP"].sum(), table["hours, one H100"].sum()]
    table["hours, eight"] = table["hours, one H100"] / 8
    echo(table.to_markdown(index=False, floatfmt=(None, ",.0f", ".2f", ".3f")))
    echo("\nA forecast: nothing of it was run. Loading of models isn't in it, eight GPUs are taken "
         "to be eight times as fast, and scores and trainings to compute in float32.")  # fmt: skip


if __name__ == "__main__":
    app()
