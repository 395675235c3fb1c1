"""Keep dvc.yaml in step with params.yaml and with the imports of the stage scripts.

    python -m persodpo sync

Run it after a change of `models`, `train.methods` or `evaluate.baselines`, or of
an import. It rewrites, in dvc.yaml, what DVC can't template: the files that pair
and report gather, the files of logged responses and of the scorers, the folders of local models,
the metrics of every model and method, the curves, the policies as artifacts, and the package's
modules among each stage's dependencies; these also in nli/dvc.yaml.
Comments and all else stay as they are.
"""

import ast
import functools
import io
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from persodpo.config.models import LoggedModel, ModelParams, PolicyModel, TransformersModel
from persodpo.config.reading import PARAMS_FILE
from persodpo.config.train import BASE, PairMethod
from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError
from persodpo.models.locations import adapter_base
from persodpo.records import write_text
from persodpo.workflow.params import Params, load_params

# What the report reads beside the artifacts: the paper's rows; template, style, script of its page.
REPORT_FILES = ["data/published/table1.csv", "persodpo/report/assets"]
DVC_FILE = Path("dvc.yaml")
NLI_DVC_FILE = Path("nli/dvc.yaml")
PACKAGE = "persodpo"
# They hold messages and checks: they can end a stage, and change no result.
NO_DEPENDENCIES = {Path("persodpo/errors.py")}
# Stages that gather the outputs of others, whose lists DVC can't template, and the folders that
# these outputs lie in, all of whose files belong to the list.
GATHERING = {
    "generate": ("artifacts/policies/",),
    "pair": ("artifacts/responses/", "artifacts/scores/"),
    "report": ("artifacts/evaluations/", "artifacts/training/"),
}
# Stages that score, in which a chat model may judge.
SCORING = ("score", "baseline", "evaluate")
# Column of the training log that each plot over the steps shows; rewards are those of pairs.
CURVES = {
    "loss": "loss/total",
    "gradient_norm": "grad_norm",
    "reward_margin": "rewards/margins",
    "reward_accuracy": "rewards/accuracies",
}
# What a stage needs of the trained model where a policy of the pool answers.
OF_THE_TRAINED = [
    "models.${train.model}.chat_template_kwargs",
    "models.${train.model}.model",
    "models.${train.model}.revision",
    "train.model",
]


def synchronise_files() -> None:
    """Rewrite dvc.yaml and nli/dvc.yaml."""
    yaml = YAML()
    yaml.width = 100
    yaml.indent(mapping=2, sequence=4, offset=2)
    params = load_params(PARAMS_FILE)
    for file in (DVC_FILE, NLI_DVC_FILE):
        document = _document(yaml, file)
        if file == DVC_FILE:
            synchronise(document, params)
        else:
            synchronise_nli(document)
        text = io.StringIO()
        yaml.dump(document, text)
        write_text(file, text.getvalue())


def _document(yaml: YAML, file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: can't be read as YAML ({reason}).") from error


def synchronise(document: dict[str, Any], params: Params) -> None:
    """Bring a loaded dvc.yaml in step, in place.

    Args:
        document: The mapping in dvc.yaml.
        params: The parameters.
    """
    fan_in = fan_in_files(params)
    for name, stage in document["stages"].items():
        body = stage.get("do", stage)
        script = _script(body["cmd"])
        if script is None:
            continue
        modules = source_files(script)
        gathered = fan_in.get(name, [])
        written_by_hand = [
            dependency
            for dependency in body.get("deps", [])
            if dependency.startswith(("artifacts/", "${"))
            and not dependency.startswith(GATHERING.get(name, ()))
        ]
        body["deps"] = [*written_by_hand, *gathered, *modules]
        if name in SCORING:
            body["params"] = _scoring_params(name, body["params"], params)
        if name == "generate":
            own = [each for each in body["params"] if each not in OF_THE_TRAINED]
            body["params"] = sorted([*own, *(OF_THE_TRAINED if _policies(params) else [])])
        if name == "pair":
            own = [each for each in body["params"] if not each.startswith("train.methods.")]
            sets = [f"train.methods.{method}.data" for method in params.train.methods]
            body["params"] = sorted([*own, *sets])
    document["metrics"] = [
        *(f"artifacts/generation/{model}.json" for model in params.pool),
        "artifacts/audit/metrics.json",
        "artifacts/pairs/metrics.json",
        *(f"artifacts/training/{method}.json" for method in params.train.methods),
        "results/metrics.json",
    ]
    for plot in document["plots"]:
        for name, settings in plot.items():
            if name in CURVES:
                column = CURVES[name]
                settings["y"] = {
                    f"artifacts/training/{key}.csv": column
                    for key, method in params.train.methods.items()
                    if isinstance(method, PairMethod) or not column.startswith("rewards/")
                }
    document["artifacts"] = {key: _artifact(key, params) for key in params.train.methods}


def _artifact(method: str, params: Params) -> dict[str, Any]:
    """A method's policy, as `dvc artifacts get` and model registries know it."""
    settings = params.train.methods[method]
    start = params.train.model if settings.start == BASE else settings.start
    if isinstance(settings, PairMethod):
        weight = "unweighted" if settings.weight == "none" else f"weight {settings.weight}"
        how = f"trained on the pair set {settings.data}, loss {settings.loss}, {weight}"
    else:
        how = f"fine-tuned on {settings.data} answers"
    what = "Adapter" if params.train.lora else "Whole model"
    return {
        "path": f"artifacts/policies/{method}",
        "type": "model",
        "desc": f"{what}: {start}, {how}",
        "labels": ["persona-grounded-dialogue", settings.loss, settings.data],
    }


def _scoring_params(stage: str, declared: Iterable[str], params: Params) -> list[str]:
    """What a stage that scores reads of params.yaml, with what its judges need."""
    keys = _judges(params)
    # of models, a template names those that answer, and a plain key those that judge
    kept = [each for each in declared if not each.startswith("models.") or "${" in each]
    if stage == "score":  # the others need it anyway
        kept = [each for each in kept if each != "generate"] + (["generate"] if keys else [])
    return sorted([*kept, *(f"models.{key}" for key in keys)])


def refuse_stale_lists(stage: str, params: Params) -> None:
    """End a stage whose fan-in list in dvc.yaml isn't that of params.yaml.

    DVC wouldn't know of files that the stage reads, and so neither make nor watch them.

    Raises:
        UserError: The lists differ.
    """
    if not DVC_FILE.is_file():  # run by hand, without DVC
        return
    stages = load_yaml(DVC_FILE)["stages"]
    if stage != "generate":  # once in a run is enough
        _warn_of_unwatched(stages, params)
    declared = stages[stage].get("do", stages[stage])["deps"]
    gathered = fan_in_files(params)[stage]
    expected = {file for file in gathered if file.startswith("artifacts/")}
    if {file for file in declared if file.startswith(GATHERING[stage])} != expected:
        raise UserError(
            f"{DVC_FILE}: the files that the stage {stage} gathers aren't those of params.yaml; "
            "run python -m persodpo sync, then dvc repro."
        )


def _warn_of_unwatched(stages: Mapping[str, Any], params: Params) -> None:
    """Say so where a stage reads a file, a folder or a module that DVC doesn't know of."""
    fan_in = fan_in_files(params)
    for name, stage in stages.items():
        body = stage.get("do", stage)
        script = _script(body["cmd"])
        if script is None:
            continue
        declared = body["deps"]
        for file in [*fan_in.get(name, []), *source_files(script)]:
            if not file.startswith("artifacts/") and file not in declared:
                sys.stderr.write(
                    f"{file}: DVC doesn't watch it for the stage {name}, so a change of it runs "
                    "nothing; run python -m persodpo sync\n"
                )


def synchronise_nli(document: dict[str, Any]) -> None:
    """Bring a loaded nli/dvc.yaml, whose stages run in that folder, in step, in place."""
    for stage in document["stages"].values():
        body = stage["do"]
        script = _script(body["cmd"])
        assert script is not None
        modules = [f"../{path}" for path in source_files(script)]
        body["deps"] = [*(dep for dep in body["deps"] if "${" in dep), *modules]


def fan_in_files(params: Params) -> Mapping[str, list[str]]:
    """The files that a stage gathers from all instances of other stages, or params.yaml names.

    Of what models and scorers name, local files and folders count, not packages or Hugging Face
    ids. Each is a dependency of all models of the pool or all baselines, and so is the policy of a
    method that answers in the pool, because DVC can't template one for some of them; a change costs
    the others seconds, since their answers are cached.
    """
    policies = _policies(params)
    trained_or_none = [params.trained_model()] if policies else []
    pool = _local([*(params.models[key] for key in params.pool), *trained_or_none])
    baselines = _local([params.models[key] for key in params.evaluate.baselines.values()])
    trained = _local([params.trained_model()])
    named = [name for scorer in params.scorers.values() for name in scorer.paths()]
    judged = [name for name in dict.fromkeys(named) if Path(name).exists()]
    judges = _judges(params)
    prices = [params.generate.prices] if judges else []
    asked = _local([params.models[key] for key in judges])
    return {
        "generate": [*(f"artifacts/policies/{method}" for method in policies), *pool],
        "base": trained,
        "baseline": list(dict.fromkeys([*baselines, *judged, *asked])),
        "score": [*judged, *prices, *asked],
        "audit": [*judged, *([params.audit.opposites] if params.audit.opposites else [])],
        "train": trained,
        "evaluate": list(dict.fromkeys([*trained, *judged, *prices, *asked])),
        "pair": [
            f"artifacts/{kind}/{model}.jsonl"
            for kind in ("responses", "scores")
            for model in params.pool
        ],
        "report": [
            *(f"artifacts/evaluations/{name}.jsonl" for name in params.candidates()),
            *(
                f"artifacts/training/{name}.{kind}"
                for kind in ("csv", "json")
                for name in params.train.methods
            ),
            *REPORT_FILES,
        ],
    }


def _policies(params: Params) -> list[str]:
    """The methods that answer in the pool, each once."""
    models = [params.models[key] for key in params.pool]
    return list(dict.fromkeys(each.method for each in models if isinstance(each, PolicyModel)))


def _judges(params: Params) -> list[str]:
    """The keys of the chat models that judge, each once."""
    keys = [key for scorer in params.scorers.values() for key in scorer.model_keys()]
    return list(dict.fromkeys(keys))


def _local(models: Iterable[ModelParams]) -> list[str]:
    """The files of logged responses, and the folders of models on this machine."""
    named: list[str] = []
    for model in models:
        if isinstance(model, LoggedModel):
            named.append(model.file)
        elif isinstance(model, TransformersModel) and Path(model.model).is_dir():
            named += [model.model, *adapter_base(model.model)]
    return list(dict.fromkeys(named))


def _script(command: str | list[str]) -> Path | None:
    """The file of the module that a stage's command runs: `... -m stages.pair ...`.

    None for a stage that somebody added and whose command runs something else.
    """
    words = command.split() if isinstance(command, str) else []
    modules = [word for word in words if word.startswith("stages.")]
    return Path(*modules[0].split(".")).with_suffix(".py") if modules else None


def source_files(script: Path) -> list[str]:
    """The modules of the package on which a stage's results depend.

    A folder all of whose modules are among them stands for these: DVC reads dvc.lock on every call,
    and the longer it is the longer that takes.
    """
    modules = {path for path in imported_files(script) if path not in NO_DEPENDENCIES}
    folders = {folder for path in modules for folder in path.parents if len(folder.parts) > 1}
    for folder in sorted(folders, key=lambda each: len(each.parts)):
        inside = set(folder.rglob("*.py"))
        if inside <= modules:
            modules = (modules - inside) | {folder}
    return sorted(str(path) for path in modules)


def imported_files(script: Path) -> list[Path]:
    """A script and all modules of the package that it imports, directly or through others.

    The imports are read from the source, so nothing is run. A package's
    `__init__.py` counts as imported with each of its modules.
    """
    sources: set[Path] = set()
    open_files = [script]
    while open_files:
        file = open_files.pop()
        if file in sources:
            continue
        sources.add(file)
        for module in _imports(file.read_text(encoding="utf-8")):
            parts = module.split(".")
            if parts[0] == PACKAGE:
                # `from a.b import c` imports a, a.b and, if c is a module, a.b.c
                paths = [Path(*parts[:n]) for n in range(1, len(parts) + 1)]
                open_files += [
                    source
                    for path in paths
                    for source in (path.with_suffix(".py"), path / "__init__.py")
                    if source.is_file()
                ]
    return sorted(sources)


@functools.cache
def _imports(source: str) -> tuple[str, ...]:
    """The names that a module's source imports, with those of functions."""
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return tuple(names)
