"""The NLI judge on tiny checkpoints, and the training of classifiers through its DVC pipeline."""

import json
import os
import random
import re
import shutil
import subprocess

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import make_bert
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from persodpo.errors import UserError
from persodpo.models.locations import folder_hash
from persodpo.score.judges.nli import LABELS, NliJudge, class_order
from persodpo.score.train_nli.adapter import adapted_layers, as_adapter, freeze_biases
from persodpo.score.train_nli.pairs import load_pairs, with_unrelated
from persodpo.score.train_nli.params import ClassifierParams, load_nli_params
from persodpo.score.train_nli.training import measure, train_classifier

EMBEDDED = load_nli_params(ROOT / "nli").classifiers["minilm_snli"]


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["contradiction", "entailment", "neutral"], [0, 2, 1]),
        (["ENTAILMENT", "NEUTRAL", "CONTRADICTION"], [2, 1, 0]),
        (["negative", "neutral", "positive"], [0, 1, 2]),
        (["entails", "neither", "contradicts"], [2, 1, 0]),
        (["Entail.", "neutral ", "-contradictory-"], [2, 1, 0]),
    ],
)
def test_the_usual_names_of_the_classes(labels, order):
    assert class_order(dict(enumerate(labels)), "m", "scorers.c.model") == order


@pytest.mark.parametrize(
    "labels",
    [["LABEL_0", "LABEL_1", "LABEL_2"], ["entailment", "not_entailment"],
     ["entailment", "neutral", "neutral"], ["entailment", "neutral", "contradiction", "other"],
     ["not entailment", "neutral", "contradiction"]],
)  # fmt: skip
def test_unclear_classes_are_an_error(labels):
    with pytest.raises(UserError, match=r"can't be told .* into scorers\.c\.labels"):
        class_order(dict(enumerate(labels)), "m", "scorers.c.model")


def judged(judge, pairs):
    return dict(row for batch in judge(pairs) for row in batch)


def test_probabilities_are_the_checkpoints_in_our_order(tmp_path):
    labels = ["neutral", "entailment", "contradiction"]
    make_bert(tmp_path, labels)
    pairs = [("I love the sea.", "Boats."), ("", ""), ("a tower " * 200, "How high is it?")]
    ours = judged(NliJudge(str(tmp_path), None, None, 100, "scorers.c.model"), pairs)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    for pair in pairs:
        # two segments, and the longer text cut: the tokens as the library pairs them
        texts = [[text] for text in pair]  # in lists, since an empty text alone counts as none
        inputs = tokenizer(*texts, truncation="longest_first", max_length=64, return_tensors="pt")
        assert inputs["token_type_ids"].max() == 1
        with torch.no_grad():
            p = model(**inputs).logits.softmax(-1)[0]
        expected = [p[labels.index(label)].item() for label in LABELS]
        assert ours[pair] == pytest.approx(expected, abs=1e-5)
    named = NliJudge(str(tmp_path), None, labels[::-1], 2, "scorers.c.model")
    swapped = judged(named, pairs)[pairs[0]]
    assert swapped == pytest.approx([ours[pairs[0]][i] for i in (1, 0, 2)], abs=1e-6)


def test_labels_of_another_number_than_classes_are_reported(tmp_path):
    make_bert(tmp_path, ["LABEL_0", "LABEL_1", "LABEL_2"])
    with pytest.raises(UserError, match=r"scorers\.c\.labels has 2 names, but .* has 3 classes"):
        NliJudge(str(tmp_path), None, ["neutral", "entailment"], 2, "scorers.c.model")
    NliJudge(str(tmp_path), None, list(LABELS), 2, "scorers.c.model")


def captions(n):
    """Pairs whose label a tiny model can learn from one word."""
    rng = random.Random(0)
    words = {"entailment": "outside", "neutral": "maybe", "contradiction": "never"}
    rows = []
    for i in range(n):
        label = LABELS[i % 3]
        hypothesis = f"He is {words[label]} {rng.choice(['there', 'here'])}, number {i}."
        premise = f"A man rides horse {i // 3} near a river."
        rows.append({"premise": premise, "hypothesis": hypothesis, "label": label})
    return pd.DataFrame(rows)


def params(**changes):
    return EMBEDDED.model_copy(update={"lora_r": 4, "epochs": 2.0, "unrelated": 0.0,
                                       **changes})  # fmt: skip


def write(folder, rows, name="pairs.csv"):
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / name, index=False)


@pytest.mark.slow
@given(seed=st.integers(0, 10**6), held_out=st.floats(0.05, 0.9))
def test_no_premise_is_on_both_sides(seed, held_out, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rows = captions(60)
    write(folder / "d", rows)
    settings = params(folder="d", train_file="pairs.csv", seed=seed, held_out=held_out)
    train, test = load_pairs(settings, folder)
    assert not set(train["premise"]) & set(test["premise"])
    both = pd.concat([train, test])[["premise", "label", "hypothesis"]]
    assert sorted(both.to_records(index=False).tolist()) == sorted(
        rows[["premise", "label", "hypothesis"]].to_records(index=False).tolist()
    )


def test_snlis_and_dialogue_nlis_own_files(tmp_path):
    (tmp_path / "snli").mkdir()
    (tmp_path / "snli/snli_1.0_train.jsonl").write_text(
        '{"gold_label": "neutral", "sentence1": "p", "sentence2": "h", "pairID": "1"}\n'
        '{"gold_label": "-", "sentence1": "p", "sentence2": "h"}\n'
    )
    (tmp_path / "snli/snli_1.0_test.jsonl").write_text(
        '{"gold_label": "entailment", "sentence1": "null", "sentence2": "h"}\n'
    )
    classifiers = load_nli_params(ROOT / "nli").classifiers
    train, test = load_pairs(
        classifiers["bert_snli"].model_copy(update={"folder": "snli"}), tmp_path
    )
    assert train.to_dict("records") == [{"premise": "p", "hypothesis": "h", "label": "neutral"}]
    assert test["premise"].tolist() == ["null"]
    (tmp_path / "dnli").mkdir()
    for name in ("train", "test"):
        (tmp_path / f"dnli/dialogue_nli_{name}.jsonl").write_text(
            '[{"label": "positive", "sentence1": "p", "sentence2": "h", "triple1": ["i", "a"]},'
            ' {"label": "negative", "sentence1": "p", "sentence2": "g", "triple1": []}]'
        )
    train, _ = load_pairs(classifiers["bert_dnli"].model_copy(update={"folder": "dnli"}), tmp_path)
    assert train["label"].tolist() == ["entailment", "contradiction"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (captions(60).assign(label="-"), "there is no pair with a label"),
        (captions(9), "fewer than 10 different premises"),
        (captions(3).assign(label="perhaps"), "the label 'perhaps' .of the premise 'A man rides"),
        (captions(3).drop(columns="label"), "there is no column 'label'; the columns there are"),
        (None, r"^nli/params\.yaml: train_file is .* which doesn't exist"),
    ],
)
def test_data_that_does_not_fit_is_reported(tmp_path, rows, message):
    if rows is not None:
        write(tmp_path / "d", rows)
    with pytest.raises(UserError, match=message):
        load_pairs(params(folder="d", train_file="pairs.csv"), tmp_path)


def test_a_pair_without_a_text_is_reported_before_any_training(tmp_path):
    rows = captions(60).to_dict("records")
    rows[7]["hypothesis"] = None
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        UserError, match="pair 8 of those with a label: its hypothesis is None, not"
    ):
        load_pairs(params(folder=".", train_file="pairs.jsonl"), tmp_path)


def test_params_are_checked(tmp_path):
    text = (ROOT / "nli/params.yaml").read_text()
    for change, message in [
        (("held_out: 0.1\n", "held_out: null\n"), "minilm_snli: give either test_file or held_out"),
        (
            ("    lora_r: ", "    rank: 4\n    lora_r: "),
            r"minilm_snli\.rank is an unknown key; the keys",
        ),
    ]:
        (tmp_path / "params.yaml").write_text(re.sub(change[0], change[1], text, count=1))
        with pytest.raises(UserError, match=message):
            load_nli_params(tmp_path)


def test_added_pairs_follow_from_those_there_are():
    rows = captions(30)
    more = with_unrelated(rows, share=0.5, seed=0)
    assert more.head(30).to_dict("records") == rows[more.columns].to_dict("records")
    unrelated = more.iloc[30:]
    assert 0 < len(unrelated) <= 15
    assert set(unrelated["label"]) == {"neutral"}
    known = set(zip(rows["premise"], rows["hypothesis"], strict=True))
    assert not known & set(zip(unrelated["premise"], unrelated["hypothesis"], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("lora_r", [4, None])
def test_a_classifier_learns_and_is_loaded_as_it_was_trained(tmp_path, lora_r):
    make_bert(tmp_path / "base", ["x", "y", "z"])
    settings = params(base=str(tmp_path / "base"), lora_r=lora_r, epochs=30.0, learning_rate=0.003,
                      max_length=64, batch_size=16)  # fmt: skip
    assert isinstance(settings, ClassifierParams)
    train_classifier(captions(90), settings, tmp_path / "out")
    assert (tmp_path / "out/adapter_config.json").exists() == (lora_r is not None)
    numbers = measure(str(tmp_path / "out"), None, captions(30))
    assert numbers["pairs"] == 30
    assert numbers["accuracy"] > 0.9
    assert numbers["accuracy_low"] < numbers["accuracy"] <= numbers["accuracy_high"]
    confusion = pd.DataFrame(numbers["confusion"])
    assert confusion.sum(axis=1).tolist() == [10, 10, 10]
    assert sum(confusion.iloc[i, i] for i in range(3)) == numbers["accuracy"] * 30
    assert list(tmp_path.glob("tmp*")) == []  # nothing is left behind


def test_an_adapter_says_what_the_trained_model_says(tmp_path):
    """Changes of a low rank, and any change of what isn't compressed, come through."""
    make_bert(tmp_path, LABELS)
    tuned, base = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path).eval() for _ in range(2)
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    inputs = tokenizer(["the tower"], ["a castle"], return_tensors="pt")
    freeze_biases(tuned, 2)
    torch.manual_seed(0)
    with torch.no_grad():
        before = tuned(**inputs).logits
        for name, value in tuned.named_parameters():
            layer = name.removesuffix(".weight")
            if layer in adapted_layers(tuned, 2):
                rows, columns = value.shape
                value.add_(torch.randn(rows, 2) @ torch.randn(2, columns) / 10)
            elif value.requires_grad:
                value.add_(torch.randn_like(value) / 10)
        expected = tuned(**inputs).logits
        adapted = as_adapter(tuned, base, 2).eval()
        assert torch.allclose(adapted(**inputs).logits, expected, atol=1e-4)
    assert (expected - before).abs().max() > 0.1


def test_an_adapters_hash_tells_its_base(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for seed in (0, 1):
        make_bert(tmp_path / f"base{seed}", LABELS, seed)
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(base), "revision": None})
    )
    hashes = []
    for seed in (0, 0, 1):
        shutil.copytree(tmp_path / f"base{seed}", base, dirs_exist_ok=True)
        hashes.append(folder_hash(adapter))
    assert hashes[0] == hashes[1] != hashes[2]
    of_hub = []
    for name, revision in [("owner/a", "a" * 40), ("owner/a", "b" * 40), ("owner/b", "b" * 40)]:
        (adapter / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": name, "revision": revision})
        )
        of_hub.append(folder_hash(adapter))
    assert len(set(of_hub)) == 3


def test_a_label_without_pairs_is_reported(tmp_path):
    rows = captions(30)
    with pytest.raises(UserError, match=r"has no pair of neutral"):
        train_classifier(rows[rows["label"] != "neutral"], params(), tmp_path / "out")


@pytest.mark.slow
def test_the_pipeline_trains_on_what_it_is_given(tmp_path):
    """Real DVC, in a copy of the repository, on the packaged model."""
    subprocess.run(["git", "clone", "-q", ROOT, tmp_path / "r"], check=True)
    for path in ("nli", "persodpo", "stages"):  # as they are, committed or not
        ignore = shutil.ignore_patterns("data", "models", "cache", "tmp")
        shutil.copytree(ROOT / path, tmp_path / "r" / path, dirs_exist_ok=True, ignore=ignore)
    nli = tmp_path / "r/nli"
    written = yaml.safe_load((nli / "params.yaml").read_text())
    written["classifiers"]["minilm_snli"] |= {"epochs": 1, "max_length": 32, "lora_r": 2}
    (nli / "params.yaml").write_text(yaml.safe_dump(written))
    write_folder = nli / "data/snli_part"
    write_folder.mkdir(parents=True)
    captions(60).to_csv(write_folder / "snli.csv", index=False)
    env = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    run = subprocess.run(["dvc", "repro", "train@minilm_snli"], cwd=nli, env=env,
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    numbers = json.loads((nli / "models/minilm_snli.json").read_text())
    assert numbers["trained_on"] + numbers["pairs"] == 60
    NliJudge(str(nli / "models/minilm_snli"), None, None, 8, "scorers.c.model")
    again = subprocess.run(["dvc", "repro", "train@minilm_snli"], cwd=nli, env=env,
                           capture_output=True, text=True, check=True)  # fmt: skip
    assert "didn't change, skipping" in again.stdout
    missing = subprocess.run(["dvc", "repro", "train@bert_snli"], cwd=nli, env=env,
                             capture_output=True, text=True, check=False)  # fmt: skip
    assert missing.returncode != 0
    # the main workflow doesn't see any of it
    status = subprocess.run(["dvc", "stage", "list"], cwd=nli.parent, env=env,
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert "nli" not in status.stdout
