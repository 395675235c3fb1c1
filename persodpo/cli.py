"""The command line beside the stages: dvc.yaml in step, costs, profiles, export, chat, cache.

python -m persodpo sync
python -m persodpo estimate
python -m persodpo profile paper | replay --logs FOLDER
python -m persodpo export METHOD --to FOLDER
python -m persodpo chat [--with NAME] [--persona SENTENCE | --like ID] [--raw]
python -m persodpo cache show | verify | prune | seed
"""

import datetime
import sys
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import typer

from persodpo.config.models import SampledModel
from persodpo.errors import UserError
from persodpo.generate.cache import AnswerCache, Damaged, Entry, Line
from persodpo.generate.request import sample_request
from persodpo.generate.run import estimate_model, make_caller
from persodpo.records import Answer, Evaluated, Prompt, Response, read_rows
from persodpo.runner import ARTIFACTS
from persodpo.sample.draw import sample_prompts
from persodpo.workflow.dvc_yaml import synchronise_files
from persodpo.workflow.params import Params, load_params
from persodpo.workflow.profiles import apply_profile

# without Rich's tracebacks, which print local variables, and with them keys
app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__)
cache_app = typer.Typer(no_args_is_help=True, help="The cache of answers in .cache/answers.")
app.add_typer(cache_app, name="cache")


def main() -> None:
    """Run the command line; a mistake in the user's input ends it with one sentence."""
    try:
        app()
    except UserError as error:
        sys.exit(f"error: {error}")


@app.command()
def sync() -> None:
    """Bring dvc.yaml and nli/dvc.yaml in step with params.yaml and the imports.

    Run it after a change of `models`, `pool`, `train.methods` or `evaluate.baselines`.
    """
    synchronise_files()


@app.command()
def estimate() -> None:
    """Print what the whole pool's calls will take and cost, without making one.

    The prompts are drawn anew by params.yaml: the training prompts for each model of the pool,
    the validation prompts for each baseline. Trained methods run on this machine.
    """
    params, cache = load_params(), AnswerCache()
    train, valid = sample_prompts(params.sample)
    asked: list[tuple[str, str, list[Prompt], int | None]]
    asked = [(key, key, train, None) for key in params.pool]
    asked += [
        (f"{name} (baseline)", key, valid, 1) for name, key in params.evaluate.baselines.items()
    ]
    settings = (params.generate, params.sample.max_words, cache)
    table = pd.DataFrame(
        estimate_model(key, params.models[key], prompts, *settings, samples)._replace(model=label)
        for label, key, prompts, samples in asked
    )
    total = table.drop(columns="model").sum().to_dict() | {"model": "all"}
    _print_table(pd.concat([table, pd.DataFrame([total]).astype(table.dtypes)]))
    typer.echo(
        "Prompt tokens are about right for English, completion tokens and cost the most they can "
        f"be. Each stage may cost generate.max_cost_usd = {params.generate.max_cost_usd:g} dollars."
    )


@app.command()
def profile(
    name: Annotated[str, typer.Argument(help="A file in profiles/, without .yaml.")],
    logs: Annotated[
        Path | None, typer.Option(help="The folder of the files that the authors published.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite uncommitted changes.")] = False,
) -> None:
    """Put a profile in the place of params.yaml, and bring dvc.yaml in step.

    Do it on a branch of its own, and commit; README.md has the commands.
    """
    apply_profile(name, logs, force)
    typer.echo(
        f"params.yaml and dvc.yaml are those of the profile {name}; its head says what to run."
    )


@app.command()
def export(
    method: Annotated[str, typer.Argument(help="A key of train.methods.")],
    to: Annotated[Path, typer.Option(help="The folder to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
) -> None:
    """Write a trained method as a folder to share: model, adapter, prompt and model card."""
    # imported late, because torch takes seconds that the other commands need not wait
    from persodpo.share.export import export_method  # noqa: PLC0415

    facts = export_method(method, to, force)
    if facts.outdated:
        typer.echo(
            f"warning: dvc.lock has other values of {', '.join(facts.outdated)} than params.yaml, "
            f"which the card says; run dvc repro train@{method} and export again."
        )
    if not facts.evaluated:
        typer.echo(f"warning: {method} isn't evaluated; run dvc repro evaluate@{method} before.")
    typer.echo(
        f"{to}: the model and its card. Read README.md before you share it; prompt.txt holds "
        "one of the validation dialogues."
    )


@app.command()
def chat(
    chosen: Annotated[
        list[str] | None,
        typer.Option("--with", help="base or a trained method; repeatable. Without it, all."),
    ] = None,
    persona: Annotated[
        list[str] | None, typer.Option(help="A sentence about you; repeatable.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="ID", help="Take the persona of a sampled prompt.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Show the models' raw texts.")] = False,
) -> None:
    """Talk to the base and the trained methods, side by side."""
    from persodpo.share.chat.terminal import run_chat  # noqa: PLC0415 - as in export

    run_chat(chosen or [], persona or [], like, raw)


@cache_app.command()
def show(
    key: Annotated[str | None, typer.Argument(help="The first digits of an entry's key.")] = None,
) -> None:
    """Print what is cached for each model, or whole entries as JSON."""
    cache = AnswerCache()
    rows = []
    for line in cache.lines():
        if isinstance(line.entry, Damaged):
            continue
        if key is not None and line.entry.key.startswith(key):
            typer.echo(line.entry.model_dump_json(indent=2))
        rows.append(_summary(line.entry))
    if key is not None:
        return
    if not rows:
        typer.echo(f"{cache.folder}: no answers.")
        return
    groups = ["provider", "base_url", "model"]
    how = {"first": "min", "last": "max"}
    table = pd.DataFrame(rows)
    totals = {name: how.get(name, "sum") for name in table.columns.difference(groups, sort=False)}
    _print_table(table.groupby(groups, as_index=False).agg(totals))


@cache_app.command()
def verify() -> None:
    """Read every entry; exit status 1 if one is damaged or under another request's key."""
    cache = AnswerCache()
    sound = damaged = 0
    for line in cache.lines():
        if isinstance(line.entry, Damaged):
            damaged += 1
            typer.echo(f"{line.path}, line {line.number}: {line.entry.reason}")
        else:
            sound += 1
    typer.echo(f"{sound} sound entries, {damaged} damaged.")
    if damaged:
        raise UserError(
            f"{cache.folder}: {damaged} damaged entries; "
            "run python -m persodpo cache prune --damaged --yes to remove them."
        )


@cache_app.command()
def prune(
    damaged: Annotated[bool, typer.Option("--damaged", help="Damaged entries.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Entries of one model, as `cache show` names it.")
    ] = None,
    backend: Annotated[
        Literal["transformers", "openai"] | None,
        typer.Option(help="Entries of models on this machine (transformers), or behind servers."),
    ] = None,
    served_model: Annotated[
        str | None, typer.Option(help="Entries in which the server names this model.")
    ] = None,
    older_than: Annotated[
        int | None,
        typer.Option(min=0, max=36500, help="Entries received more than so many days ago."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them instead of counting.")] = False,
) -> None:
    """Count or remove damaged entries, or those for which all that is given holds."""
    chosen = [each for each in (model, backend, served_model, older_than) if each is not None]
    if not damaged and not chosen:
        raise UserError(
            "say what to prune: --damaged, --model, --served-model, --backend or --older-than."
        )
    limit = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=older_than or 0)

    def unwanted(line: Line) -> bool:
        if isinstance(line.entry, Damaged):
            return damaged
        if not chosen:
            return False
        age = datetime.datetime.fromisoformat(line.entry.created)
        return (
            (model is None or _model(line.entry) == model)
            and (backend is None or line.entry.request.provider == backend)
            and (served_model is None or line.entry.answer.served_model == served_model)
            and (older_than is None or age < limit)
        )

    cache = AnswerCache()
    count = sum(unwanted(line) for line in cache.lines())
    busy = cache.remove(unwanted) if yes else []
    typer.echo(f"{count} entries {'removed' if yes else 'to remove; add --yes to do so'}.")
    if busy:
        raise UserError(f"{busy[0]}: left as it is, a running process writes to it; try later.")


@cache_app.command()
def seed() -> None:
    """Fill the cache from responses that were pulled, so that a larger sample asks only for more.

    Each response of the pool and of the baselines is taken over if params.yaml and the prompts
    still give the request that it answered; others are counted and left out.
    """
    params, cache = load_params(), AnswerCache()
    for name in params.pool:
        path = ARTIFACTS / f"responses/{name}.jsonl"
        if path.is_file():
            _seed(name, name, "train", read_rows(path, Response), params, cache)
    for name, key in params.evaluate.baselines.items():
        path = ARTIFACTS / f"evaluations/{name}.jsonl"
        if path.is_file():
            rows = read_rows(path, Evaluated)
            responses = [row.response for row in rows]
            _seed(f"{name} (baseline)", key, "valid", responses, params, cache)


def _seed(
    label: str,
    key: str,
    split: str,
    responses: list[Response],
    params: Params,
    cache: AnswerCache,
) -> None:
    """Take over the responses of one model to the prompts of one split."""
    model = params.models[key]
    if not isinstance(model, SampledModel):
        return
    prompts = {p.id: p for p in read_rows(ARTIFACTS / f"prompts/{split}.jsonl", Prompt)}
    known = [response for response in responses if response.id in prompts]
    requests = make_caller(key, model, params.generate).requests(
        [prompts[response.id] for response in known], params.sample.max_words
    )
    taken = 0
    for first, response in zip(requests, known, strict=True):
        request = sample_request(first, response.sample)
        if request.key == response.request_key:
            fields = response.model_dump(include=set(Answer.model_fields))
            cache.put(request, Answer(**fields))
            taken += 1
    typer.echo(f"{label}: {taken} of {len(responses)} responses taken over.")


def _summary(entry: Entry) -> dict[str, str | int]:
    return {
        "provider": entry.request.provider,
        "base_url": entry.request.base_url or "",
        "model": _model(entry),
        "answers": 1,
        "prompt_tokens": entry.answer.prompt_tokens or 0,
        "completion_tokens": entry.answer.completion_tokens or 0,
        "first": entry.created,
        "last": entry.created,
    }


def _model(entry: Entry) -> str:
    request = entry.request
    name = request.model or f"weights {(request.weights or '')[:12]}"
    return f"{name} + adapter {request.adapter[:12]}" if request.adapter else name


def _print_table(table: pd.DataFrame) -> None:
    typer.echo(table.to_markdown(index=False, floatfmt=".4g", intfmt=","))
