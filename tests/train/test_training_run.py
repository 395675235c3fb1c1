"""A whole training: policy, log, the same result again, resumed, in several ways to train."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATE, ROOT, transformers_model
from peft import PeftModel
from safetensors.torch import load_file
from test_training import PAIRS, make_pair
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from persodpo.config.train import MethodParams, TrainParams
from persodpo.errors import UserError
from persodpo.records import Prompt
from persodpo.train.checkpoints import run_folder
from persodpo.train.layout import choose_layout, shared_layout_error
from persodpo.train.run import train_policy
from persodpo.workflow.params import load_params

METHOD = {
    "pairs": "persodpo",
    "loss": "sigmoid",
    "weight": "score",
    "sft_weight": 1.0,
    "learning_rate": 0.05,
}
PROMPTS = [
    Prompt(id=id_, persona=[], turns=["x"], golden_answer="y", text=text)
    for id_, text in {pair.prompt_id: pair.prompt[0].content for pair in PAIRS}.items()
]
MORE_PAIRS = [
    make_pair(f"q{number}", f"What is {number}?", f"{number} it is.", "No idea.", (0.5, 0.1))
    for number in range(6)
]
MORE_PROMPTS = [
    Prompt(id=p.prompt_id, persona=[], turns=["x"], golden_answer="y", text=p.prompt[0].content)
    for p in MORE_PAIRS
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path / ".cache"


@pytest.fixture
def run(tiny_model, tmp_path):
    def train(name, pairs=PAIRS, prompts=PROMPTS, method=(), model=tiny_model, **changes):
        lora = {"r": 4, "alpha": 8, "targets": "all-linear", "quantisation": "none"}
        values = {"warmup_steps": 0, "epochs": 2, "max_length": 512, "lora": lora}
        shipped = load_params(ROOT / "params.yaml").train.model_dump()
        done = train_policy(
            pairs, prompts, MethodParams(**(METHOD | dict(method))),
            TrainParams.model_validate(shipped | values | changes),
            transformers_model(model), 110, DATE, tmp_path / name,
        )  # fmt: skip
        done.discard_checkpoints()
        return done

    return train


def weights(folder):
    (file,) = Path(folder).glob("*.safetensors")
    return load_file(file)


def model_with_windows(folder, tokenizer):
    """A model whose sliding windows are shorter than the prompts."""
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=8, initializer_range=0.5,
        max_position_embeddings=512,
    )  # fmt: skip
    torch.manual_seed(0)
    model = MistralForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def test_a_whole_run(run, tmp_path, tokenizer, tiny_model, cache):
    runs = [run(f"{name}/adapter") for name in "ab"]
    log = runs[0].log
    assert log["step"].tolist() == [1, 2, 3, 4]
    assert {"loss", "grad_norm", "rewards/margins", "weight/min", "num_tokens"} <= set(log.columns)
    assert log["weight/mean"].between(0.5, 1).all()
    assert runs[0].metrics["pairs"] == 4
    assert log["loss"].tolist() == runs[1].log["loss"].tolist()  # same seed, same losses
    assert sorted(file.name for file in (tmp_path / "a/adapter").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors"]  # fmt: skip
    saved = [(tmp_path / n / "adapter/adapter_config.json").read_text() for n in "ab"]
    assert saved[0] == saved[1]
    targets = json.loads(saved[0])["target_modules"]
    assert targets == sorted(targets)
    assert json.loads(saved[0])["base_model_name_or_path"] == str(tiny_model)
    one, two = (weights(tmp_path / n / "adapter") for n in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids = torch.tensor([tokenizer("Where is the tower?")["input_ids"]])
    before = model(ids).logits
    after = PeftModel.from_pretrained(model, tmp_path / "a/adapter")(ids).logits
    assert not torch.allclose(before, after)
    assert not any((cache / "training").glob("*/"))  # nothing is left to go on from


def test_methods_differ_in_what_they_say(run):
    losses = {
        name: run(name, method=method).log["loss"].tolist()
        for name, method in {
            "none": {"weight": "none", "sft_weight": 0.0},
            "score": {"weight": "score", "sft_weight": 0.0},
            "offset": {"weight": "margin_offset", "sft_weight": 0.0},
            "sft": {"weight": "score", "sft_weight": 1.0},
        }.items()
    }
    # at the first step the policy is the reference, and every pair's loss is log 2
    assert losses["none"][0] in [pytest.approx(np.log(2) * n / 2, rel=1e-4) for n in (1, 3)]
    assert losses["score"][0] < losses["none"][0] < losses["offset"][0]
    assert losses["none"][0] < losses["sft"][0]


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        ("linear", [0, 0.5, 1, 0.5, 0]),
        ("cosine", [0, 0.5, 1, 0.5, 0]),
        ("constant_with_warmup", [0, 0.5, 1, 1, 1]),
    ],
)
def test_schedule_and_warm_up(run, scheduler, rates):
    """Two steps up to the peak and two down; a cosine is half way down where a line is, too."""
    log = run("s", scheduler=scheduler, warmup_steps=2, epochs=2).log
    assert log["learning_rate"].tolist() == pytest.approx([0.05 * r for r in rates[:4]])
    log = run("t", scheduler=scheduler, warmup_steps=0, epochs=2).log
    down = {"linear": [1, 0.75, 0.5, 0.25], "constant_with_warmup": [1] * 4,
            "cosine": [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]}[scheduler]  # fmt: skip
    assert log["learning_rate"].tolist() == pytest.approx([0.05 * r for r in down])


def test_alpha_and_seed_reach_the_adapter(run, tmp_path):
    lora = {"r": 4, "alpha": 8, "targets": "all-linear", "quantisation": "none"}
    one = run("one", method={"learning_rate": 1e-9})
    run("alpha", lora=lora | {"alpha": 3}, method={"learning_rate": 1e-9})
    run("seed", seed=1, method={"learning_rate": 1e-9})
    saved = [json.loads((tmp_path / name / "adapter_config.json").read_text())["lora_alpha"]
             for name in ("one", "alpha", "seed")]  # fmt: skip
    assert saved == [8, 3, 8]
    first, alpha, seed = (weights(tmp_path / name) for name in ("one", "alpha", "seed"))
    drawn = [name for name in first if "lora_A" in name]
    assert all(torch.allclose(first[name], alpha[name], atol=1e-6) for name in drawn)
    assert not any(torch.allclose(first[name], seed[name], atol=1e-6) for name in drawn)
    # by the same seed the prompts come in the same order, by another one in another
    assert len({tuple(each.log["loss"].round(6)) for each in (one, run("again"))}) == 2


def test_the_layout_is_in_the_key_of_the_reference_values(run, cache, tokenizer, tmp_path):
    """A model that takes masks in one layout only has other values in each."""
    model_with_windows(tmp_path / "windows", tokenizer)
    with pytest.MonkeyPatch.context() as patch:  # as it was before a forced layout was checked
        patch.setattr("persodpo.train.layout.shared_layout_error", lambda *_: None)
        run("shared", model=tmp_path / "windows", layout="shared")
    auto = run("auto", model=tmp_path / "windows", layout="auto").log
    assert auto["rewards/margins"].iloc[0] == pytest.approx(0, abs=1e-5)


def test_answers_that_begin_with_white_space_are_trained(run, chat_model, capsys):
    """Of a tokenizer that merges line feeds, as Qwen2's: each pair, and none left out."""
    whites = ["\n", "\n\n", "  ", "\n  \n", ""]
    pairs = [
        make_pair(f"q{i}", f"What is {i}?", f'{white}{{"response": "{i}"}}', white, (0.9, 0.1))
        for i, white in enumerate(whites)
    ]
    prompts = [
        Prompt(id=p.prompt_id, persona=[], turns=["x"], golden_answer="y", text=p.prompt[0].content)
        for p in pairs
    ]
    done = run("white", pairs, prompts, model=chat_model, epochs=1)
    assert done.metrics["pairs"] == 5
    assert np.isfinite(done.log["loss"]).all()
    assert "left out" not in capsys.readouterr().err


def test_a_pair_that_cannot_be_laid_out_is_left_out_and_counted(run, tiny_model, tmp_path, capsys):
    """Here the template writes the prompt otherwise before some answers."""
    for file in Path(tiny_model).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    template = (tmp_path / "chat_template.jinja").read_text()
    odd = "{% if 'No.' in messages[-1]['content'] %}Listen! {% endif %}"
    (tmp_path / "chat_template.jinja").write_text(odd + template)
    done = run("odd", model=tmp_path)
    assert done.metrics["pairs"] == 2
    assert "2 of 4 pairs are left out, because the tokenizer can't write" in capsys.readouterr().err
    with pytest.raises(UserError, match="so none of the pairs can be trained"):
        run("none", [PAIRS[0]], PROMPTS, model=tmp_path)


def test_another_beta_needs_no_reference_pass(run, cache, monkeypatch):
    passes = []
    compute = "persodpo.train.reference._compute"
    original = __import__("persodpo.train.reference", fromlist=["_compute"])._compute
    monkeypatch.setattr(compute, lambda *args: passes.append(1) or original(*args))
    run("a")
    assert len(passes) == 2
    run("b", beta=0.5, epochs=1, weight_temperature=0.3, method={"learning_rate": 0.001})
    assert len(passes) == 2


def test_steps_of_pairs_and_passes_give_the_same_policy(run, tmp_path):
    run("whole", MORE_PAIRS, MORE_PROMPTS, batch_unit="pairs", batch_size=3)
    cut = run("cut", MORE_PAIRS, MORE_PROMPTS, batch_unit="pairs", batch_size=3, passes=2)
    assert cut.metrics["steps"] == 4
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_gradient_checkpointing_changes_nothing(run, tmp_path, monkeypatch):
    run("plain")
    used = []
    forward = LlamaModel.forward
    monkeypatch.setattr(LlamaModel, "forward", lambda self, *args, **kwargs: (
        used.append(self.training and self.layers[0].gradient_checkpointing)
        or forward(self, *args, **kwargs)))  # fmt: skip
    run("checkpointed", gradient_checkpointing=True)
    assert any(used)
    one, two = weights(tmp_path / "plain"), weights(tmp_path / "checkpointed")
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)


def test_the_layouts_give_the_same_losses(run):
    logs = {layout: run(layout, layout=layout).log for layout in ("shared", "separate")}
    assert np.allclose(logs["shared"]["loss"], logs["separate"]["loss"], rtol=1e-4)
    tokens = [log["num_tokens"].iloc[-1] for log in logs.values()]
    assert tokens[0] < tokens[1]


def test_all_weights_are_trained_in_float32_without_a_second_model(
    run, tmp_path, tiny_model, capsys
):
    loaded = []
    original = PreTrainedModel.from_pretrained.__func__

    def counted(cls, *args, **kwargs):
        loaded.append(cls)
        return original(cls, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreTrainedModel, "from_pretrained", classmethod(counted))
        done = run("full", lora=None, dtype="bfloat16", method={"learning_rate": 1e-3})
    assert len(loaded) == 1
    assert "a prompt of its own" not in capsys.readouterr().err
    assert done.log["loss/pair"].iloc[0] == pytest.approx(np.log(2), rel=1e-3)
    policy = AutoModelForCausalLM.from_pretrained(tmp_path / "full")
    assert policy.dtype is torch.float32
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    before, after = (next(model.parameters()) for model in (base, policy))
    assert not torch.equal(before, after)
    assert AutoTokenizer.from_pretrained(tmp_path / "full").chat_template


def test_bfloat16(run, capsys):
    logs = {dtype: run(dtype, dtype=dtype).log for dtype in ("float32", "bfloat16")}
    assert "a prompt of its own" not in capsys.readouterr().err
    losses = [log["loss/total"] for log in logs.values()]
    assert np.allclose(*losses, rtol=0.1)
    assert logs["bfloat16"]["rewards/margins"].iloc[0] == 0  # the policy starts as its reference


def test_nf4(run, tmp_path):
    lora = {"r": 4, "alpha": 8, "targets": ["q_proj", "v_proj"], "quantisation": "nf4"}
    log = run("nf4", lora=lora).log
    assert log["rewards/margins"].iloc[0] == pytest.approx(0, abs=1e-4)
    assert log["loss/total"].iloc[-1] < log["loss/total"].iloc[0]
    assert {each.dtype for each in weights(tmp_path / "nf4").values()} == {torch.float32}


def test_nf4_on_a_cpu_that_would_repack_the_weights(run, monkeypatch):
    """bitsandbytes on avx512_bf16: of widths that aren't multiples of its block it can't."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)
    lora = {"r": 4, "alpha": 8, "targets": ["q_proj", "v_proj"], "quantisation": "nf4"}
    log = run("nf4", lora=lora).log
    assert log["rewards/margins"].iloc[0] == pytest.approx(0, abs=1e-4)
    assert log["loss/total"].iloc[-1] < log["loss/total"].iloc[0]


def test_nf4_without_its_package(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *args: None)
    lora = {"r": 4, "alpha": 8, "targets": "all-linear", "quantisation": "nf4"}
    with pytest.raises(UserError, match="needs the package bitsandbytes"):
        run("nf4", lora=lora)


def test_held_out_pairs_and_early_stopping(run):
    # at this learning rate the held-out loss goes up and down
    settings = {"held_out": 0.3, "eval_steps": 1, "epochs": 2}
    method = {"learning_rate": 0.5, "sft_weight": 0.0}
    whole = run("whole", MORE_PAIRS, MORE_PROMPTS, method, **settings)
    assert whole.metrics["steps"] == 8
    assert whole.log["eval_loss"].notna().all()
    assert {"eval_rewards/accuracies", "eval_rewards/margins"} <= set(whole.log.columns)
    stopped = run("stopped", MORE_PAIRS, MORE_PROMPTS, method, early_stopping=2, **settings)
    assert stopped.metrics["steps"] < 8
    losses = stopped.log["eval_loss"]
    assert losses.idxmin() == len(losses) - 3  # twice in a row it hadn't fallen
    assert stopped.metrics["held_out_loss"] == losses.min()


def test_a_model_that_cannot_share_prompts_gets_trls_layout(run, tokenizer, tmp_path, capsys):
    """Sliding windows shorter than the prompt are ignored by a mask of one's own."""
    model = model_with_windows(tmp_path / "windows", tokenizer)
    done = run("policy", model=tmp_path / "windows")
    said = capsys.readouterr().err
    assert "each answer gets a prompt of its own, because MistralForCausalLM gives" in said
    assert np.isfinite(done.log["loss"]).all()
    rows = [{"prompt_ids": [5, 6, 7], "answer_ids": [[8, 9], [10]]}]
    assert shared_layout_error(model, rows, 2, torch.float32) is None  # all fits into the window
    # so do this one's sequences, though it has most tokens in all, but not the other's
    many = {"prompt_ids": [5], "answer_ids": [[token, 7, 8, 9] for token in range(10, 20)]}
    long = {"prompt_ids": list(range(5, 18)), "answer_ids": [[8, 9], [10]]}
    assert shared_layout_error(model, [many, rows[0]], 2, torch.float32) is None
    assert shared_layout_error(model, [many, long], 2, torch.float32)
    assert choose_layout("shared", model, rows, 2, torch.float32) == "shared"
    # nor is it forced upon a model that can't have it
    with pytest.raises(UserError, match=r"train\.layout is shared, but MistralForCausalLM gives"):
        choose_layout("shared", model, [many, long], 2, torch.float32)


def test_a_model_that_fails_on_a_mask_says_so(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    forward = model.forward

    def picky(*args, attention_mask, **kwargs):
        if attention_mask.dim() == 4:
            raise ValueError("no such masks")
        return forward(*args, attention_mask=attention_mask, **kwargs)

    model.forward = picky
    rows = [{"prompt_ids": [5, 6, 7], "answer_ids": [[8, 9], [10]]}]
    assert "no such masks" in shared_layout_error(model, rows, 2, torch.float32)


def test_no_pairs(run):
    with pytest.raises(UserError, match=r"pairs/persodpo\.jsonl has no pairs to train on"):
        run("none", pairs=[])


@pytest.mark.parametrize("target", ["q_prj", "lm_head"])
def test_a_layer_that_is_not_there(run, target):
    lora = {"r": 4, "alpha": 8, "targets": ["v_proj", target], "quantisation": "none"}
    with pytest.raises(UserError, match=f"lora.targets has '{target}'.*q_proj"):
        run("none", lora=lora)


def test_a_loss_that_is_no_number_ends_the_run(run, tmp_path):
    with pytest.raises(UserError, match=r"The loss isn't a number at step [234]"):
        run("none", method={"learning_rate": 0.9}, max_grad_norm=1e38, beta=1e38, epochs=4)
    assert not (tmp_path / "none").exists()


def test_accelerates_own_precision_is_overruled(run, monkeypatch):
    plain = run("plain").log["loss"].tolist()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert run("told").log["loss"].tolist() == plain


def test_one_process_on_several_devices_is_refused(run, monkeypatch):
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    with pytest.raises(UserError, match="launch starts one process on 2 accelerators"):
        run("none")


def test_another_setting_is_another_run(tmp_path):
    names = {run_folder(tmp_path, {"params": {"beta": beta}}) for beta in (0.1, 0.2, 0.1)}
    assert len(names) == 2
