import json
import re
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from persodpo.config.sample import SampleParams
from persodpo.errors import UserError
from persodpo.sample.draw import sample_prompts
from persodpo.sample.readers import read_dialogues


def write(path, ids, answers=None, prefix=""):
    rows = [
        {
            "id": prefix + str(i),
            "persona": ["I sail."],
            "turns": [f"{prefix}{i}?"],
            "golden_answer": (answers or {}).get(i, "Yes."),
        }
        for i in ids
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))


@pytest.fixture
def make(tmp_path):
    def params(**changes):
        values = {
            "train_file": str(tmp_path / "train.jsonl"),
            "valid_file": str(tmp_path / "valid.jsonl"),
            "n_train": 5,
            "n_valid": 2,
            "seed": 1,
            "persona_of": "user",
            "rounds": "last",
            "max_turns": None,
            "max_words": 10,
            "overlap": "refuse",
        }
        return SampleParams(**(values | changes))

    write(tmp_path / "train.jsonl", range(20))
    write(tmp_path / "valid.jsonl", range(4), prefix="v")
    return params


def ids(prompts):
    return [prompt.id for prompt in prompts]


@given(seed=st.integers(0, 10**6), n=st.integers(1, 19), more=st.integers(1, 19))
def test_a_larger_draw_holds_the_smaller_one(tmp_path_factory, seed, n, more):
    folder = tmp_path_factory.mktemp("draw")
    write(folder / "t.jsonl", range(20))
    write(folder / "v.jsonl", range(2), prefix="v")
    values = {"train_file": str(folder / "t.jsonl"), "valid_file": str(folder / "v.jsonl"),
              "n_valid": 1, "seed": seed, "persona_of": "user", "rounds": "last",
                  "max_turns": None, "max_words": 9,
              "overlap": "refuse"}  # fmt: skip
    small = ids(sample_prompts(SampleParams(n_train=n, **values))[0])
    large = ids(sample_prompts(SampleParams(n_train=min(20, n + more), **values))[0])
    assert large[:n] == small
    assert len(set(large)) == len(large)


def test_the_order_of_the_file_is_irrelevant_and_the_seed_is_not(make, tmp_path):
    first = ids(sample_prompts(make())[0])
    write(tmp_path / "train.jsonl", reversed(range(20)))
    assert ids(sample_prompts(make())[0]) == first
    assert ids(sample_prompts(make(seed=2))[0]) != first


def test_long_answers_are_left_out(make, tmp_path):
    write(tmp_path / "train.jsonl", range(6), {3: "word " * 11, 4: "word " * 10})
    assert set(ids(sample_prompts(make())[0])) == {"0", "1", "2", "4", "5"}
    message = "it has 5 dialogues that may be drawn (their last answer has at most 10"
    with pytest.raises(UserError, match=re.escape(message)):
        sample_prompts(make(n_train=6))


@pytest.mark.parametrize(("twin", "key"), [("0", "id"), ("x", "turns")])
def test_overlap_is_refused(make, tmp_path, twin, key):
    row = {"id": twin, "persona": ["p"], "turns": ["0?" if key == "turns" else "?"],
           "golden_answer": "r"}  # fmt: skip
    (tmp_path / "valid.jsonl").write_text(json.dumps(row))
    message = f"dialogue {twin!r}: it also stands in"
    with pytest.raises(UserError, match=re.escape(message)):
        sample_prompts(make(n_train=20, n_valid=1))
    message = (
        r"0 dialogues .* and they are not in the training.*; .* name another sample\.valid_file"
    )
    with pytest.raises(UserError, match=message):
        sample_prompts(make(n_train=20, n_valid=1, overlap="leave_out"))


def test_overlap_is_left_out(make, tmp_path):
    """Only what is drawn for training; a number of published prompts belongs to one file."""
    rows = [f"I sail.,User1: {i}?,User2: Yes." for i in range(6)]
    header = "personas,context,act_response\n"
    (tmp_path / "train.csv").write_text(header + "\n".join(rows[:4]))
    (tmp_path / "valid.csv").write_text(header + "\n".join(rows[2:]))
    files = {"train_file": str(tmp_path / "train.csv"), "valid_file": str(tmp_path / "valid.csv")}
    train, valid = sample_prompts(make(n_train=4, n_valid=2, overlap="leave_out", **files))
    assert set(ids(train)) == {"0", "1", "2", "3"}
    assert set(ids(valid)) == {"valid-2", "valid-3"}
    train, valid = sample_prompts(make(n_train=1, n_valid=3, overlap="leave_out", **files))
    assert train[0].turns not in [prompt.turns for prompt in valid]
    with pytest.raises(UserError, match=r"set sample\.overlap to leave_out"):
        sample_prompts(make(n_train=4, n_valid=4, **files))


def test_the_official_format_goes_the_same_way():
    params = SampleParams(
        train_file=str(ROOT / "data/focus/train.json"),
        valid_file=str(ROOT / "data/focus/valid.json"),
        n_train=3, n_valid=2, seed=0, rounds="last", max_turns=None, max_words=110,
        persona_of="user",
        overlap="refuse",
    )  # fmt: skip
    train, valid = sample_prompts(params)
    assert (len(train), len(valid)) == (3, 2)
    for prompt in (*train, *valid):
        assert len(prompt.turns) % 2 == 1
        assert all(text in prompt.text for text in (*prompt.persona, *prompt.turns))
        assert prompt.golden_answer not in prompt.text


def test_a_prompt_has_the_parts_of_its_dialogue(make):
    params = make(train_file=str(ROOT / "data/focus/train.json"), max_words=60)
    dialogues = {dialogue.id: dialogue for dialogue in read_dialogues(Path(params.train_file))}
    for prompt in sample_prompts(params)[0]:
        dialogue = dialogues[prompt.id]
        assert tuple(prompt.persona) == dialogue.persona
        assert tuple(prompt.turns) == dialogue.turns
        assert prompt.golden_answer == dialogue.golden_answer
        assert tuple(prompt.persona_grounding or ()) == dialogue.persona_grounding
