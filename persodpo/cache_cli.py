"""`python -m persodpo cache`: show, verify, prune and seed the cached answers."""

import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from persodpo.config.models import SampledModel
from persodpo.errors import UserError
from persodpo.records import Answer, Evaluated, Prompt, Response, read_rows
from persodpo.runner import ARTIFACTS

# the commands import the rest late, so that the help comes at once
if TYPE_CHECKING:
    import pandas as pd

    from persodpo.generate import AnswerCache, Entry, Line
    from persodpo.workflow import Params

cache_app = typer.Typer(no_args_is_help=True, help="The cache of answers in .cache/answers.")


@cache_app.command()
def show(
    key: Annotated[str | None, typer.Argument(help="The first digits of an entry's key.")] = None,
) -> None:
    """Print what is cached for each model, or whole entries as JSON."""
    import pandas as pd  # noqa: PLC0415

    from persodpo.generate import AnswerCache, Damaged  # noqa: PLC0415

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
    aggregations = {"first": "min", "last": "max"}
    table = pd.DataFrame(rows)
    totals = {
        name: aggregations.get(name, "sum") for name in table.columns.difference(groups, sort=False)
    }
    print_table(table.groupby(groups, as_index=False).agg(totals))


@cache_app.command()
def verify() -> None:
    """Read every entry; exit status 1 if one is damaged or under another request's key."""
    from persodpo.generate import AnswerCache, Damaged  # noqa: PLC0415

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
    from persodpo.generate import AnswerCache, Damaged  # noqa: PLC0415

    filters = [each for each in (model, backend, served_model, older_than) if each is not None]
    if not damaged and not filters:
        raise UserError(
            "say what to prune: --damaged, --model, --served-model, --backend or --older-than."
        )
    limit = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=older_than or 0)

    def unwanted(line: "Line") -> bool:
        if isinstance(line.entry, Damaged):
            return damaged
        if not filters:
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
    from persodpo.generate import AnswerCache  # noqa: PLC0415
    from persodpo.workflow import load_params  # noqa: PLC0415

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
    params: "Params",
    cache: "AnswerCache",
) -> None:
    """Take over the responses of one model to the prompts of one split."""
    from persodpo.generate import answering_model, make_caller, sample_request  # noqa: PLC0415

    asked = answering_model(key, params.models, params.train.model, ARTIFACTS)
    model = asked.model
    if not isinstance(model, SampledModel):
        return
    prompts = {p.id: p for p in read_rows(ARTIFACTS / f"prompts/{split}.jsonl", Prompt)}
    answered = [response for response in responses if response.id in prompts]
    requests = make_caller(asked.weights_key, model, params.generate, asked.policy).requests(
        [prompts[response.id] for response in answered], params.sample.max_words
    )
    taken = 0
    for first, response in zip(requests, answered, strict=True):
        request = sample_request(first, response.sample)
        if request.key == response.request_key:
            fields = response.model_dump(include=set(Answer.model_fields))
            cache.put(request, Answer(**fields))
            taken += 1
    typer.echo(f"{label}: {taken} of {len(responses)} responses taken over.")


def _summary(entry: "Entry") -> dict[str, str | int]:
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


def _model(entry: "Entry") -> str:
    request = entry.request
    name = request.model or f"weights {(request.weights or '')[:12]}"
    return f"{name} + adapter {request.adapter[:12]}" if request.adapter else name


def print_table(table: "pd.DataFrame") -> None:
    """Print a table as Markdown."""
    typer.echo(table.to_markdown(index=False, floatfmt=".4g", intfmt=","))
