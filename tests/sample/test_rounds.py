"""Every round of a dialogue as a prompt, and prompts of the last turns only."""

import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from persodpo.config.sample import SampleParams
from persodpo.errors import UserError
from persodpo.sample import sample_prompts
from persodpo.sample.readers import read_dialogues
from persodpo.sample.rounds import rounds_of

TRAIN, VALID = (ROOT / f"data/focus/{split}.json" for split in ("train", "valid"))


def params(**changes):
    values = {"train_file": str(TRAIN), "valid_file": str(VALID), "n_train": 5, "n_valid": 5,
              "seed": 44, "persona_of": "user", "rounds": "all", "max_turns": None, "max_words": 60,
              "overlap": "refuse"}  # fmt: skip
    return SampleParams(**(values | changes))


@given(st.integers(0, 10**6), st.integers(1, 150), st.sampled_from([30, 40, 60]))
def test_a_dialogue_gives_a_second_prompt_after_each_has_given_one(seed, n, max_words):
    """And a larger draw holds the smaller one, and no answer is longer than allowed."""
    dialogues = read_dialogues(TRAIN)
    fitting = {
        d.id: sum(len(r.golden_answer.split()) <= max_words for r in rounds_of(d, "all"))
        for d in dialogues
    }
    n = min(n, sum(fitting.values()))
    drawn = sample_prompts(params(seed=seed, n_train=n, max_words=max_words))[0]
    assert len({prompt.id for prompt in drawn}) == n
    counts = Counter(prompt.dialogue for prompt in drawn)
    most = max(counts.values())
    # who has fewer has no more to give
    assert all(counts[id_] >= min(most - 1, has) for id_, has in fitting.items())
    fewer = sample_prompts(params(seed=seed, n_train=max(1, n // 2), max_words=max_words))[0]
    assert drawn[: len(fewer)] == fewer


def test_a_round_has_its_turns_its_answer_and_its_marks():
    document = json.loads(TRAIN.read_text())
    entries = {each["dialogID"]: each["utterance"] for each in document["data"]}
    drawn = sample_prompts(params(n_train=200, max_words=110))[0]
    assert len({prompt.id for prompt in drawn}) == 200
    for prompt in drawn:
        dialogue, number = prompt.id.rsplit("#", 1)
        assert dialogue == prompt.dialogue == prompt.cluster
        utterance = entries[dialogue][int(number) - 1]
        assert [*prompt.turns, prompt.golden_answer] == utterance[f"dialogue{number}"]
        assert prompt.persona_grounding == utterance["persona_grounding"]


@pytest.mark.parametrize(("entries", "turns"), [(2, 6), (3, 4)])
def test_marks_that_belong_to_other_rounds_are_refused(tmp_path, entries, turns):
    utterances = [{"persona_grounding": [True]} for _ in range(entries)]
    utterances[-1][f"dialogue{entries}"] = [f"turn {n}" for n in range(turns)]
    data = [{"dialogID": "d", "persona": ["I sail."], "utterance": utterances}]
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"data": data}))
    with pytest.raises(UserError, match=f"has {turns} turns, and {entries} entries of"):
        read_dialogues(file)


def test_the_last_round_alone_is_the_dialogue_itself():
    for dialogue in read_dialogues(TRAIN):
        (last,) = rounds_of(dialogue, "last")
        every = rounds_of(dialogue, "all")
        assert last.id == dialogue.id
        assert every[-1][1:] == last[1:]
        assert len(every) == (len(dialogue.turns) + 1) // 2
    assert all(prompt.dialogue is None for prompt in sample_prompts(params(rounds="last"))[0])


def test_files_without_marks_have_rounds_too(tmp_path):
    row = {"id": "a", "persona": ["I sail."], "turns": ["One?", "1.", "Two?", "2.", "Three?"],
           "golden_answer": "3.", "persona_grounding": [True]}  # fmt: skip
    (tmp_path / "plain.jsonl").write_text(json.dumps(row))
    prompts = sample_prompts(params(train_file=str(tmp_path / "plain.jsonl"), n_train=3))[0]
    found = {p.id: (p.turns, p.golden_answer, p.persona_grounding) for p in prompts}
    assert found == {
        "a#1": (["One?"], "1.", None),
        "a#2": (["One?", "1.", "Two?"], "2.", None),
        "a#3": (["One?", "1.", "Two?", "2.", "Three?"], "3.", [True]),
    }
    with pytest.raises(UserError, match="it has 3 rounds that may be drawn"):
        sample_prompts(params(train_file=str(tmp_path / "plain.jsonl"), n_train=4))


def test_wrong_marks_of_an_earlier_round_are_reported(tmp_path):
    document = json.loads(TRAIN.read_text())
    document["data"][0]["utterance"][0]["persona_grounding"] = [True]
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match="'persona_grounding' must be a list of 5 times"):
        read_dialogues(tmp_path / "wrong.json")


@pytest.mark.parametrize("max_turns", [1, 3, 99])
def test_only_the_last_turns_are_shown(max_turns):
    whole = {prompt.id: prompt for prompt in sample_prompts(params(n_train=60))[0]}
    for prompt in sample_prompts(params(n_train=60, max_turns=max_turns))[0]:
        assert prompt.turns == whole[prompt.id].turns[-max_turns:]
        assert prompt.text.count("\nUser") == len(prompt.turns)
        assert f"\nUser1: {prompt.turns[0]}" in prompt.text
        assert prompt.golden_answer == whole[prompt.id].golden_answer


def test_one_dialogue_is_in_one_of_the_samples(tmp_path):
    both = json.loads(TRAIN.read_text())
    both["data"] = both["data"][:1]
    file = Path(tmp_path / "valid.json")
    file.write_text(json.dumps(both))
    with pytest.raises(UserError, match="it also stands in"):
        sample_prompts(params(valid_file=str(file), n_train=64, n_valid=1, max_words=110))
