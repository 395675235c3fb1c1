"""Data sets with the persona of the speaker who answers: ConvAI2, Blended Skill Talk."""

import json

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.sample.draw import sample_prompts
from persodpo.sample.readers import read_dialogues
from persodpo.sample.rounds import rounds_of
from persodpo.workflow.params import load_params

# Lines of a text file, with no tab in them.
texts = (
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r\t"), min_size=1)
    .map(str.strip)
    .filter(lambda text: text and not text.startswith(("your persona:", "partner's persona:")))
)
turns_of = st.integers(1, 3).flatmap(lambda n: st.lists(texts, min_size=2 * n, max_size=2 * n))
dialogues = st.lists(
    st.tuples(st.lists(texts, min_size=1, max_size=3), turns_of, st.booleans(), st.booleans()),
    min_size=1,
    max_size=4,
)


def convai2(rows):
    """A file as ParlAI writes it: wrong answers, the partner's persona, a first silence."""
    lines = []
    for persona, turns, is_silent, has_more in rows:
        parts = [f"your persona: {sentence}" for sentence in persona]
        parts += ["partner's persona: i am nobody."] * has_more
        parts += ["__SILENCE__\thello\t\tno|never"] * is_silent
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            parts.append(f"{question}\t{answer}" + "\t\tno|never" * has_more)
        lines += [f"{n} {part}" for n, part in enumerate(parts, start=1)]
    return "\n".join(lines) + "\n"


def blended(rows):
    return [
        {
            "personas": [["i am free."], persona],
            "context_dataset": "convai2",
            "free_turker_utterance": turns[0],
            "guided_turker_utterance": turns[1],
            "dialog": [[n % 2, turn] for n, turn in enumerate(turns[2:] + ["So?"] * is_open)],
        }
        for persona, turns, is_open, _ in rows
        if len(turns) > 2
    ]


def check(path, rows):
    found = read_dialogues(path, "valid-")
    assert [each.id for each in found] == [f"valid-{n}" for n in range(len(rows))]
    for dialogue, (persona, turns, *_) in zip(found, rows, strict=True):
        assert list(dialogue.persona) == persona
        assert [*dialogue.turns, dialogue.golden_answer] == turns


@given(rows=dialogues)
def test_convai2_comes_back_as_it_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("convai2") / "valid.txt"
    path.write_text(convai2(rows), encoding="utf-8", newline="")
    check(path, rows)


def test_nobody_is_asked_about_what_the_speakers_of_blended_skill_talk_were_shown(tmp_path):
    path = tmp_path / "valid.json"
    path.write_text(json.dumps(blended([(["p."], list("abcdef"), False, False)])))
    (dialogue,) = read_dialogues(path, "valid-")
    rounds = [(each.id, each.golden_answer) for each in rounds_of(dialogue, "all")]
    assert rounds == [("valid-0#2", "d"), ("valid-0#3", "f")]
    assert rounds_of(dialogue, "all")[0].turns == ("a", "b", "c")
    assert [each.golden_answer for each in rounds_of(dialogue, "last")] == ["f"]


@given(rows=dialogues)
def test_blended_skill_talk_comes_back_as_it_was_written(tmp_path_factory, rows):
    rows = [(["p."], ["a", "b", "c", "d"], False, False), *rows]
    path = tmp_path_factory.mktemp("blended") / "valid.json"
    path.write_text(json.dumps(blended(rows)))
    check(path, [row for row in rows if len(row[1]) > 2])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "1 your persona: i sail.\n3 hi\thello\n", "a.txt, line 2: not ConvAI2's format"),
        ("a.txt", "Call me Ishmael.\n", "a.txt, line 1: not ConvAI2's format"),
        ("a.txt", "2 hi\thello\n", "a.txt, line 1: not ConvAI2's format"),
        ("a.txt", "1 hi\thello\n", "dialogue '0': there is no 'your persona:'; take a file of"),
        ("a.txt", "1 your persona: i sail.\n2 hi\n", "a round lacks the machine's answer"),
        ("a.txt", "1 your persona: i sail.\n2 hi\t \n", "the answer of 'the rounds' is empty"),
        ("a.txt", "1 your persona: i sail.\n2 __SILENCE__\thi\n", "the file has no dialogues"),
        ("a.json", "[1]", "dialogue '0': not Blended Skill Talk's format"),
        ("a.json", "[{}]", "'personas' must be a list of two personas"),
        ("a.json", '[{"personas": [[], []], "dialog": [[1, "x"]]}]', "with the speakers 0 and 1"),
        ("a.json", '[{"personas": [[], []], "dialog": {}}]', "with the speakers 0 and 1 in turn"),
        ("a.json", '[{"personas": [[], []], "dialog": [[0, "x"]]}]', "one turn of each"),
        ("a.json", '[{"personas": [[], []], "dialog": [[0, "x"], [1, "y"]]}]',
         "'personas' must be a list with at least one sentence"),
        ("a.json", '[{"personas": [[], ["i."]], "dialog": [[0, "x"], [1, "y"]]}]',
         "item 1 of 'dialog' is empty or not a text"),
        ("a.json", "[", "not valid JSON"),
        ("a.json", "[]", "the file has no dialogues"),
    ],
)  # fmt: skip
def test_a_broken_file_is_told_in_one_sentence(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_dialogues(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_the_prompt_says_whose_persona_it_is(tmp_path):
    files = {}
    for split in ("train", "valid"):
        files[f"{split}_file"] = str(tmp_path / f"{split}.txt")
        (tmp_path / f"{split}.txt").write_text(
            f"1 your persona: i sail in {split}.\n2 who are you, {split}?\ta sailor.\n"
        )
    changes = {"persona_of": "machine", "n_train": 1, "n_valid": 1, **files}
    params = load_params(ROOT / "params.yaml").sample.model_copy(update=changes)
    (train,), (valid,) = sample_prompts(params)
    assert (train.id, valid.id) == ("0#1", "valid-0#1")
    assert train.persona_of == "machine"
    assert "keep to your own persona.\n\nPersona of User2:\n- i sail in train.\n" in train.text
    assert "User1's persona" not in train.text
