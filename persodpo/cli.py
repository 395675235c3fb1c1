"""The command line beside the stages: dvc.yaml, seeds, costs, profiles, export, chat, cache.

python -m persodpo sync
python -m persodpo seeds [NAME ...] [--brief]
python -m persodpo estimate
python -m persodpo profile NAME [--logs FOLDER] [--force]
python -m persodpo export METHOD --to FOLDER [--push OWNER/NAME [--public] [--dry-run]]
python -m persodpo chat [--with NAME] [--persona SENTENCE | --like ID] [--raw]
python -m persodpo cache show | verify | prune | seed
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from persodpo.cache_cli import cache_app, print_table
from persodpo.errors import UserError
from persodpo.runner import ARTIFACTS

# without Rich's tracebacks, which print local variables, and with them keys
app = typer.Typer(pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__)
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

    Run it after you add, remove or rename a model of the pool, a method, a baseline or a metric,
    and after you name another local folder or file.
    """
    # imported late, as in all commands, so that the help comes at once
    from persodpo.workflow import synchronise_files  # noqa: PLC0415

    synchronise_files()


@app.command()
def seeds(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Experiments, folders of runs, or workspace; without one, it and all experiments."
        ),
    ] = None,
    brief: Annotated[bool, typer.Option("--brief", help="The mean total scores only.")] = False,
) -> None:
    """Average runs that differ in train.seed alone.

    They are those of the workspace, of the last commit's experiments, and of other folders.
    make seeds makes them.
    """
    from persodpo.experiments import (  # noqa: PLC0415
        brief_table,
        not_averaged,
        read_runs,
        seed_tables,
    )

    runs, left_out = read_runs(names or [])
    for sentence in [*left_out, *not_averaged(runs)]:
        typer.echo(sentence, err=True)
    typer.echo(brief_table(runs) if brief else seed_tables(runs))


@app.command()
def estimate() -> None:
    """Print what all calls will take and cost, without making one.

    The prompts are drawn anew by params.yaml: the training prompts for each model of the pool,
    the validation prompts for each baseline. Trained methods run on this machine. Judges are asked
    about every valid answer.
    """
    import pandas as pd  # noqa: PLC0415

    from persodpo.estimate_cli import estimate_calls  # noqa: PLC0415
    from persodpo.workflow import load_params  # noqa: PLC0415

    params = load_params()
    table, assumed = estimate_calls(params, ARTIFACTS)
    total = table.drop(columns="model").sum().to_dict() | {"model": "all"}
    print_table(pd.concat([table, pd.DataFrame([total]).astype(table.dtypes)]))
    typer.echo(
        "Prompt tokens are about right for English, completion tokens and cost the most they can "
        f"be. Each stage may cost generate.max_cost_usd = {params.generate.max_cost_usd:g} dollars."
    )
    if assumed:
        typer.echo(
            "Judges' calls about answers that are still to come are an assumption: that all are "
            f"valid and as long as sample.max_words = {params.sample.max_words} allows."
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

    Do it on a branch of its own, and commit; the profile's head has the commands.
    """
    from persodpo.workflow import apply_profile  # noqa: PLC0415

    apply_profile(name, logs, force)
    typer.echo(
        f"params.yaml and dvc.yaml are those of the profile {name}; its head says what to run."
    )


@app.command()
def export(
    method: Annotated[str, typer.Argument(help="A key of train.methods.")],
    to: Annotated[Path, typer.Option(help="The folder to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload it to the Hugging Face hub.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see a model that --push makes.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --push: list what it would upload.")
    ] = False,
) -> None:
    """Write a trained method as a folder to share: model, adapter, prompt and model card.

    With --push a folder that is there already is uploaded as it is, unless --force writes it anew.
    """
    from persodpo.share.export import export_method, refuse_other_policy  # noqa: PLC0415
    from persodpo.share.push import list_upload, push_folder, refuse_repo  # noqa: PLC0415

    if push is None and (public or dry_run):
        raise UserError("--public and --dry-run belong to --push; name a model with it.")
    if push is not None:
        refuse_repo(push)
    if push is not None and to.exists() and not force:
        refuse_other_policy(method, to)
        typer.echo(f"{to}: is there, and taken as it is; --force writes it anew.")
    else:
        facts = export_method(method, to, force)
        if facts.outdated:
            typer.echo(
                f"warning: dvc.lock has other values of {', '.join(facts.outdated)} than "
                f"params.yaml, as the card says; run dvc repro evaluate@{method} and export again."
            )
        if not facts.evaluated:
            typer.echo(f"warning: {method} isn't evaluated; run dvc repro evaluate@{method} first.")
        typer.echo(
            f"{to}: the model and its card. Read README.md before you share it; prompt.txt holds "
            "one of the validation dialogues."
        )
    if push is None:
        return
    if dry_run:
        for name, size in list_upload(to):
            typer.echo(f"would upload {name}, {size:,} bytes")
        typer.echo(f"to {push}, {'public' if public else 'private'} if it is new; nothing was sent")
    else:
        typer.echo(f"uploaded: {push_folder(to, push, public)}")


@app.command()
def chat(
    chosen: Annotated[
        list[str] | None,
        typer.Option("--with", help="base or a trained method; repeatable. Without it, all."),
    ] = None,
    persona: Annotated[
        list[str] | None,
        typer.Option(help="A sentence about whoever sample.persona_of names; repeatable."),
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="ID", help="Take the persona of a sampled prompt.")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Show the models' raw texts.")] = False,
) -> None:
    """Talk to the base and the trained methods, side by side."""
    from persodpo.share.chat.terminal import run_chat  # noqa: PLC0415

    run_chat(chosen or [], persona or [], like, raw)
