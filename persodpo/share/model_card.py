"""The model card of an exported method: README.md, as the Hugging Face hub reads it."""

import importlib.metadata
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import ModelCardData

from persodpo.config.models import TransformersModel
from persodpo.config.train import BASE, PairMethod, SftMethod, starts
from persodpo.workflow import Params

PROMPT_FILE = "prompt.txt"
# What stands in prompt.txt in the place of a persona and a dialogue.
PERSONA, DIALOGUE = "PERSONA", "DIALOGUE"
# Where prompt.txt goes from the prompt to the example.
RULE = "====="
PACKAGES = ("torch", "transformers", "trl", "peft")


@dataclass(frozen=True)
class Facts:
    """What the model card tells.

    Attributes:
        method: A key of `train.methods`.
        params: All parameters.
        training: The numbers of its training.
        pairs: The numbers of `persodpo.pair.numbers.pair_metrics`.
        n_prompts: Number of prompts by split, train and valid.
        results: The tables of the evaluated candidates, how they differ, and the audit of the
            metrics; None if nobody is evaluated.
        evaluated: Whether the method is among them.
        outdated: Parameters that have changed since the training (see
            `persodpo.share.export.changed_settings`).
        adapter: Whether an adapter was trained.
        dtype: The number format of the merged weights.
        base_hash: The hash of a packaged or local base model; None for a Hugging Face id.
        git: See `persodpo.share.export.git_state`.
    """

    method: str
    params: Params
    training: Mapping[str, float | int]
    pairs: Mapping[str, Any]
    n_prompts: Mapping[str, int]
    results: str | None
    evaluated: bool
    outdated: list[str]
    adapter: bool
    dtype: torch.dtype
    base_hash: str | None
    git: str

    @property
    def base(self) -> TransformersModel:
        """The model that was trained."""
        return self.params.trained_model()

    @property
    def on_hub(self) -> bool:
        """Whether others can load the base by its name."""
        return self.base_hash is None


def model_card(facts: Facts) -> str:
    """The card as Markdown, with the YAML head that the Hugging Face hub reads."""
    parts = [
        f"---\n{_head(facts)}\n---",
        f"# {facts.method}: {facts.base.model}, trained with PersoDPO",
        _description(facts),
        "## How to use it",
        _usage(facts),
        "## Training",
        _training(facts),
        "## Data",
        _data(facts),
        _results_section(facts),
        "## Limits",
        LIMITS,
        "## Origin",
        _origin(facts),
    ]
    return "\n\n".join(parts) + "\n"


LIMITS = """\
The model was trained on scores that small models and formulas gave automatically; no person has
judged its answers, and a high score is not yet a good answer. Training by preferences can make a
model fall apart or give one answer to everything: look at failure ratio, Repeated and Distinct-2
in the table before you use it. It was not tested for safety, for bias, or for whether what it says
is true, and what holds for its base holds for it, too. It was trained on the wording of prompt.txt
only. No licence is given here: those of the base, of the data, and of the models whose answers
formed the pairs decide."""


def _head(facts: Facts) -> str:
    # the hub refuses a card whose base_model isn't a model there
    base = facts.base.model if facts.on_hub else None
    tags = ["persodpo", "dpo", "persona-grounded-dialogue"]
    data = ModelCardData(
        base_model=base,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=tags,
        persodpo={
            "method": facts.method,
            "base": {"model": facts.base.model, "revision": facts.base.revision},
        },
    )
    return str(data.to_yaml())


def _description(facts: Facts) -> str:
    if facts.adapter:
        trained = "A LoRA adapter was trained and is merged into the weights here"
    else:
        trained = "All weights were trained"
    method = facts.params.train.methods[facts.method]
    how = "on answers of the data set or of the pool"
    if isinstance(method, PairMethod):
        how = "by direct preference optimisation on automatically scored answers"
    whom = "the user" if facts.params.sample.persona_of == "user" else "itself"
    after = "" if method.start == BASE else f", after the method `{method.start}`"
    text = f"""\
A chat model that answers the last turn of a dialogue in the light of what is known about {whom}
(the persona), as a JSON object with the field "response". It was fine-tuned {how}{after}.
{trained} ({str(facts.dtype).removeprefix("torch.")}).

- base: `{facts.base.model}`, {_which_base(facts)}
- method: `{facts.method}`"""
    lora = facts.params.train.lora
    if facts.adapter and lora and lora.quantisation != "none":
        text += (
            f"\n- the base was held in {lora.quantisation} during the training; the adapter is "
            "merged into its weights as published"
        )
    return text


def _which_base(facts: Facts) -> str:
    if facts.on_hub:
        return f"revision `{facts.base.revision}`"
    return (
        f"a packaged or local model, not one of the hub (SHA-256 of its files: {facts.base_hash})"
    )


def _usage(facts: Facts) -> str:
    parts = [
        "Run this in the folder of this card. prompt.txt has the prompt that the model was trained "
        "on, and an example of it.",
        f"```python\n{usage_code(facts)}```",
    ]
    if facts.adapter and facts.on_hub:
        parts += [
            "The adapter alone, on its base:",
            f"""\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained(
    {json.dumps(facts.base.model)}, revision={json.dumps(facts.base.revision)}
)
model = PeftModel.from_pretrained(base, "adapter")
```""",
        ]
    elif facts.adapter:
        parts.append(
            f"adapter/ holds the adapter as trained. Its base is `{facts.base.model}`, which only "
            "PersoDPO can find by this name; load the merged model as above."
        )
    return "\n\n".join(parts)


def usage_code(facts: Facts) -> str:
    """Code that asks the model as in the evaluation, without this package."""
    most = facts.params.sample.max_turns
    seen = f"; the model was trained on the last {most} of all turns" if most else ""
    variables = facts.base.chat_template_kwargs or {}
    settings = "".join(f"{name}={value!r}, " for name, value in variables.items())
    return f'''\
import json
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

persona = ["I keep bees behind my house.", "I cannot stand heights."]
# User1 speaks first and last{seen}
turns = ["I am in front of the Eiffel Tower. Should I go up?"]

template = Path("{PROMPT_FILE}").read_text(encoding="utf-8").split("\\n\\n{RULE}")[0]
facts = "\\n".join(f"- {{sentence}}" for sentence in persona)
dialogue = "\\n".join(f"User{{1 + i % 2}}: {{turn}}" for i, turn in enumerate(turns))
prompt = template.replace("- {PERSONA}", facts).replace("User1: {DIALOGUE}", dialogue)

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
inputs = tokenizer.apply_chat_template(
    [{{"role": "user", "content": prompt}}],
    {settings}add_generation_prompt=True, return_dict=True, return_tensors="pt",
)
output = model.generate(**inputs)  # generation_config.json has the decoding of the evaluation
text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
text = text.rpartition("</think>")[2]  # what a model thinks aloud is no answer
try:
    answer = json.JSONDecoder().raw_decode(text, text.index("{{"))[0]["response"]
except (ValueError, KeyError):
    answer = None  # the answer isn't in the format that was asked for
print(answer or text)
'''


def _training(facts: Facts) -> str:
    train = facts.params.train
    before = [name for name in starts(train.methods, facts.method) if name != BASE]
    methods = {
        name: train.methods[name].model_dump(mode="json") for name in [*before[::-1], facts.method]
    }
    settings = {"train": train.model_dump(mode="json", exclude={"methods"}) | {"methods": methods}}
    parts = ["Settings, as explained in params.yaml of the project:"]
    if facts.outdated:
        parts = [
            "**These settings are not all those of training and evaluation:** dvc.lock has other "
            f"values of {', '.join(facts.outdated)}. Settings in params.yaml now:"
        ]
    numbers = "\n".join(
        f"- {name}: {value if isinstance(value, int) else format(value, '.4g')}"
        for name, value in facts.training.items()
    )
    parts += [
        f"```yaml\n{yaml.safe_dump(settings, sort_keys=False)}```",
        f"Numbers of the training (loss and rewards: means of its last fifth):\n\n{numbers}",
    ]
    return "\n\n".join(parts)


def _data(facts: Facts) -> str:
    params, pool = facts.params, facts.pairs["pool"]
    method = params.train.methods[facts.method]
    train, valid = facts.n_prompts["train"], facts.n_prompts["valid"]
    lines = [
        f"- training: {train} prompts from `{params.sample.train_file}`",
        f"- validation: {valid} prompts from `{params.sample.valid_file}`",
        f"- responses to the training prompts: {pool['responses']}, of which {pool['valid']} have "
        "the format asked for, by the models",
        *(f"    - {_pool_model(params, key)}" for key in params.pool),
        f"- training set `{method.data}`: {_training_set(facts, method)}",
    ]
    return "\n".join(lines)


def _training_set(facts: Facts, method: SftMethod | PairMethod) -> str:
    if isinstance(method, SftMethod):
        which = "golden" if method.data == "golden" else "best"
        return f"the {which} answers to {facts.training['prompts']} prompts"
    pairs = facts.pairs[method.data]
    return f"{pairs['pairs']} pairs over {pairs['prompts']} prompts"


def _pool_model(params: Params, key: str) -> str:
    """A model by its key and name; never by its address."""
    model = params.models[key]
    name = getattr(model, "model", None) or getattr(model, "method", None)
    return f"{key}: {model.backend}" + (f", `{name}`" if name else "")


def _results_section(facts: Facts) -> str:
    missing = f"**{facts.method} was not evaluated.**"
    if facts.results is None:
        return f"## Results on the validation prompts\n\n{missing}"
    results = re.sub(r"^#", "##", facts.results, flags=re.MULTILINE).strip()
    return results if facts.evaluated else f"{results}\n\n{missing}"


def _origin(facts: Facts) -> str:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    versions["persodpo"] = _package_version()
    lines = "\n".join(f"- {name} {version}" for name, version in versions.items())
    return f"""\
Made by `python -m persodpo export {facts.method}`. params.yaml and docs/, which this card mentions,
are files of the project PersoDPO at the commit: {facts.git}.

Versions at the time of the export:

{lines}"""


def _package_version() -> str:
    try:
        return importlib.metadata.version("persodpo")
    except importlib.metadata.PackageNotFoundError:  # it runs from its repository
        file = Path(__file__).parents[2] / "pyproject.toml"
        return str(tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"])
