"""A trained method, made ready to be shared: python -m persodpo export METHOD --to FOLDER.

What FOLDER gets:
    *.safetensors, *.json, ...   the merged model with its tokenizer, for plain transformers, and
                                 the decoding of the evaluation as its generation config
    adapter/                     the adapter as trained, if there is one
    prompt.txt                   what the model is asked, with placeholders and as an example
    persodpo.json                the method, and the hash of its policy
    README.md                    the model card

Nothing is uploaded. Of the environment nothing is written down but versions, and the paths that
stand in params.yaml.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from persodpo.config.models import TransformersModel
from persodpo.config.reading import PARAMS_FILE
from persodpo.config.train import BASE, starts
from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError
from persodpo.models.chat_template import ChatTemplate, load_chat_template
from persodpo.models.loading import load_config, load_policy
from persodpo.models.locations import folder_hash, weights_hash
from persodpo.prompts import render_prompt
from persodpo.records import Prompt, read_rows, write_text
from persodpo.report import (
    audit_document,
    compare_methods,
    differences_of,
    read_results,
    summarise_all,
    table_1,
)
from persodpo.runner import ARTIFACTS, pick, read_json
from persodpo.share.model_card import DIALOGUE, PERSONA, PROMPT_FILE, RULE, Facts, model_card
from persodpo.share.policies import is_adapter, policy_folder
from persodpo.workflow import Params, load_params

LOCK_FILE = Path("dvc.lock")
ORIGIN_FILE = "persodpo.json"


def export_method(method: str, target: Path, force: bool = False) -> Facts:
    """Write a trained method's model, adapter, prompt and card into a folder.

    An adapter is merged in float32 and saved in the number format of the base's checkpoint (float32
    if that names none), as large as the base itself and as its users expect; in bfloat16 that
    rounds the weights once, as an evaluation in bfloat16 does, and adapter/ keeps them exactly. A
    whole model is saved in float32. A packaged GGUF file is float32 (see
    `persodpo.models.locations`), which rounds nothing.

    Args:
        method: A key of `train.methods`.
        target: The folder; it appears when it is whole.
        force: Replace an earlier export.

    Returns:
        What the card tells.

    Raises:
        UserError: There is no such method, its policy is missing or belongs to another base, an
            artifact or the base can't be read, or the folder exists.
    """
    params = load_params()
    pick(params.train.methods, method, "train.methods")
    target = target.resolve()
    _refuse_target(target, force)
    policy = policy_folder(method)
    adapter = is_adapter(method, params)
    facts = _gather(method, params, adapter)
    example = _prompts("valid")[0]
    with _atomic_folder(target) as folder:
        template = _save_model(policy, params, facts.dtype, folder)
        if adapter:
            (folder / "adapter").mkdir()
            for file in policy.iterdir():
                shutil.copyfile(file, folder / "adapter" / file.name)
        text = prompt_file(example, params.sample.max_words, template)
        write_text(folder / PROMPT_FILE, text)
        write_text(folder / ORIGIN_FILE, json.dumps(_origin(method), indent=2) + "\n")
        write_text(folder / "README.md", model_card(facts))
    return facts


def refuse_other_policy(method: str, folder: Path) -> None:
    """Refuse a folder that isn't an export of a method's policy as it is now.

    Args:
        method: A key of `train.methods`.
        folder: What `export_method` may have written.

    Raises:
        UserError: There is no such method, its policy is missing, or the folder is no export, or
            one of another policy.
    """
    params = load_params()
    pick(params.train.methods, method, "train.methods")
    is_adapter(method, params)  # refuses a missing policy
    file = folder / ORIGIN_FILE
    if not file.is_file():
        raise UserError(
            f"{folder}: is no export (there is no {ORIGIN_FILE} in it); name another folder with "
            "--to."
        )
    if read_json(file) != _origin(method):
        raise UserError(
            f"{folder}: holds another policy than that of {method} as it is now; --force writes it "
            "anew."
        )


def _origin(method: str) -> dict[str, str]:
    """What tells a method's policy from any other."""
    return {"method": method, "policy": folder_hash(policy_folder(method))}


def _refuse_target(target: Path, force: bool) -> None:
    if not target.exists():
        return
    if not force:
        raise UserError(
            f"{target}: exists; name another folder with --to, or say --force to replace it."
        )
    # --force is no way to lose a folder of another kind
    is_replaceable = target.is_dir() and (
        (target / PROMPT_FILE).is_file() or not any(target.iterdir())
    )
    if not is_replaceable:
        raise UserError(
            f"{target}: --force replaces an earlier export or an empty folder, and this is neither "
            f"(there is no {PROMPT_FILE} in it); name another folder with --to."
        )


@contextmanager
def _atomic_folder(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place when all is written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        new = Path(scratch, "new")
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # safetensors writes files that only their owner may read
        if target.exists():
            target.rename(Path(scratch, "old"))
        try:
            new.rename(target)
        except OSError:
            if Path(scratch, "old").exists():
                Path(scratch, "old").rename(target)
            raise


def _gather(method: str, params: Params, adapter: bool) -> Facts:
    """Everything that the card tells."""
    base, key = params.trained_model(), _base_key(params)
    pairs = read_json(ARTIFACTS / "pairs/metrics.json")
    evaluated = [name for name in params.candidates() if _is_evaluated(name)]
    return Facts(
        method=method,
        params=params,
        training=read_json(ARTIFACTS / f"training/{method}.json"),
        pairs=pairs,
        n_prompts={split: len(_prompts(split)) for split in ("train", "valid")},
        results=_results(evaluated, method, params) if evaluated else None,
        evaluated=method in evaluated,
        outdated=changed_settings(method, params),
        adapter=adapter,
        # a whole model was trained by smaller steps than bfloat16 can tell apart
        dtype=_checkpoint_dtype(base, key) if adapter else torch.float32,
        base_hash=weights_hash(base.model, base.revision, key),
        git=git_state(),
    )


def _prompts(split: str) -> list[Prompt]:
    return read_rows(ARTIFACTS / f"prompts/{split}.jsonl", Prompt)


def _base_key(params: Params) -> str:
    return f"params.yaml: models.{params.train.model}.model"


def _is_evaluated(name: str) -> bool:
    return (ARTIFACTS / f"evaluations/{name}.jsonl").is_file()


def _results(evaluated: list[str], method: str, params: Params) -> str:
    """The tables of the stage report, of the candidates that exist, with the method's verdicts."""
    results = read_results(evaluated, params, ARTIFACTS)
    parts = [table_1(results, summarise_all(results, params.sample.max_words))]
    if differences := differences_of(method, results, compare_methods(results, params)):
        parts.append(f"# Differences from other candidates\n\n{differences}")
    return "\n\n".join([*parts, audit_document(results)])


def changed_settings(method: str, params: Params) -> list[str]:
    """The keys of params.yaml whose values differ from those that DVC made the method with.

    They are those of its training and of the methods that it starts from, of the sample, of the
    pairs with the models that answered, and of its evaluation. A training without DVC leaves no
    trace in dvc.lock; nothing is known of it then.
    """
    if not LOCK_FILE.is_file():
        return []
    before = [name for name in starts(params.train.methods, method) if name != BASE]
    stages = [f"train@{name}" for name in (method, *before)] + ["sample", "pair"]
    stages += [f"generate@{key}" for key in params.pool] + [f"evaluate@{method}"]
    current = load_yaml(PARAMS_FILE)
    # each stage by itself: one may have run with today's value, and another one with an older one
    changed = [
        key
        for stage in stages
        for key, value in _locked(stage).items()
        if _value(current, key) != value
    ]
    return list(dict.fromkeys(changed))


def _locked(stage: str) -> dict[str, Any]:
    """The settings with which DVC last ran a stage."""
    found = (load_yaml(LOCK_FILE).get("stages") or {}).get(stage, {})
    return dict(found.get("params", {}).get(PARAMS_FILE.name, {}))


def _value(params: Any, key: str) -> Any:
    """The value of a dotted key, or None."""
    for part in key.split("."):
        params = params.get(part) if isinstance(params, dict) else None
    return params


def git_state() -> str:
    """The commit of this folder and whether anything differs from it."""
    try:
        commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "not in git"
    return f"{commit}, with uncommitted changes" if changes else commit


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout.strip()


def _checkpoint_dtype(base: TransformersModel, key: str) -> torch.dtype:
    """The number format that a checkpoint's configuration names, else float32."""
    config = load_config(base.model, base.revision, key)
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32


def _save_model(policy: Path, params: Params, dtype: torch.dtype, folder: Path) -> ChatTemplate:
    """Write the merged or whole model and its tokenizer; returns the chat template."""
    base, key = params.trained_model(), _base_key(params)
    template = load_chat_template(base, params.generate.date, key)
    model = load_policy(base.model, base.revision, key, policy, torch.float32)
    model.generation_config = generation_config(model, template, params)
    model.to(dtype).save_pretrained(folder)
    # a template that writes today's date would write another one for whoever uses the model
    template.tokenizer.chat_template = template.text
    template.tokenizer.save_pretrained(folder)
    return template


def generation_config(
    model: PreTrainedModel, template: ChatTemplate, params: Params
) -> GenerationConfig:
    """The decoding of the evaluation, as plain transformers takes it from a folder."""
    base = params.trained_model()
    sampling = {"temperature": base.temperature, "top_p": base.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=base.max_tokens or params.generate.max_tokens,
        do_sample=base.temperature > 0,
        eos_token_id=template.end_ids(model.generation_config),
        pad_token_id=template.tokenizer.pad_token_id,
        **(sampling if base.temperature else {}),
    )


def prompt_file(example: Prompt, max_words: int, template: ChatTemplate) -> str:
    """The prompt with placeholders, and a real one as the model reads it."""
    parts = [
        render_prompt([PERSONA], [DIALOGUE], max_words, example.persona_of),
        f"{RULE} Above: the user's message, a line for each sentence of the {PERSONA} and for each "
        f"turn of the {DIALOGUE}. Below: one with the chat template around it. {RULE}",
        template.render([{"role": "user", "content": example.text}], to_answer=True),
    ]
    return "\n\n".join(parts) + "\n"
