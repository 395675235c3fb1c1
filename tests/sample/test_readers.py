import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.sample.dialogue import Dialogue
from persodpo.sample.readers import read_dialogues

texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


def focus_entry(
    id_="d1", persona=("I love the sea.",), turns=("Where is it?", "By the sea."), marks=(True,)
):
    rounds = [
        {f"dialogue{k}": list(turns[: 2 * k]), "persona_grounding": [False] * len(persona)}
        for k in range(1, len(turns) // 2 + 1)
    ]
    rounds[-1]["persona_grounding"] = list(marks)
    return {"dialogID": id_, "persona": list(persona), "knowledge": [], "utterance": rounds}


def write(tmp_path, entries, name="focus.json"):
    path = tmp_path / name
    path.write_text(json.dumps({"data": entries}), encoding="utf-8")
    return path


@given(
    rows=st.lists(
        st.tuples(
            texts.map(str.strip),
            st.lists(st.tuples(texts, st.booleans()), min_size=1, max_size=5),
            st.integers(0, 3).flatmap(
                lambda n: st.lists(texts, min_size=2 * n + 1, max_size=2 * n + 1)
            ),
            texts,
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda row: row[0],
    )
)
def test_both_formats_give_the_same_dialogues(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("focus")
    rows = [(i, *zip(*persona, strict=True), turns, answer) for i, persona, turns, answer in rows]
    focus = write(
        folder,
        [focus_entry(i, persona, [*turns, answer], m) for i, persona, m, turns, answer in rows],
    )
    plain = folder / "plain.jsonl"
    plain.write_text(
        "\n".join(
            json.dumps(
                {
                    "id": i,
                    "persona": persona,
                    "turns": turns,
                    "golden_answer": answer,
                    "persona_grounding": marks,
                },
                ensure_ascii=False,
            )
            for i, persona, marks, turns, answer in rows
        ),
        encoding="utf-8",
    )
    expected = [
        Dialogue(
            i,
            tuple(s.strip() for s in persona),
            tuple(t.strip() for t in turns),
            answer.strip(),
            marks,
        )
        for i, persona, marks, turns, answer in rows
    ]
    of_focus = read_dialogues(focus)
    assert [replace(dialogue, earlier_grounding=()) for dialogue in of_focus] == expected
    assert read_dialogues(plain) == expected
    for dialogue in of_focus:
        unmarked = (False,) * len(dialogue.persona)
        assert dialogue.earlier_grounding == (unmarked,) * (len(dialogue.turns) // 2)


@given(data=st.binary(max_size=300), name=st.sampled_from(["a.json", "a.jsonl"]))
def test_any_bytes_are_dialogues_or_one_sentence(data, name, tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=re.escape(name)):
        read_dialogues(path)


@given(data=st.data())
def test_a_cut_file_names_the_place(data, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("cut"), [focus_entry("one"), focus_entry("two")])
    whole = path.read_text()
    cut = data.draw(st.integers(1, len(whole) - 1))
    path.write_text(whole[:cut])
    with pytest.raises(UserError) as caught:
        read_dialogues(path)
    # an unterminated text is reported where it begins, at most one value earlier
    starts = {whole.index(f'"{id_}"') + len(id_) + 2: id_ for id_ in ("one", "two")}
    begun = [id_ for start, id_ in starts.items() if start <= cut]
    places = [f"in or after dialogue {id_!r}" for id_ in begun[-1:]] or ["before the first"]
    assert any(place in str(caught.value) for place in places)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"persona": None}, "dialogue 'd1': 'persona' must be a list with at least one sentence"),
        ({"persona": []}, "dialogue 'd1': 'persona' must be a list with at least one sentence"),
        ({"persona": ["fine", " "]}, "dialogue 'd1': item 2 of 'persona' is empty"),
        ({"utterance": []}, "dialogue 'd1': 'utterance' must be a list"),
        (
            {"utterance": [{"dialogue1": ["q", "a"], "persona_grounding": [True, False]}]},
            "'persona_grounding' must be a list of 1 times true or false",
        ),
        ({"utterance": [{}]}, "dialogue 'd1': the last entry of 'utterance' needs a list"),
        ({"utterance": [{"dialogue1": ["q"]}]}, "at least a question and an answer"),
        ({"utterance": [{"dialogue1": ["q", "a", "q"]}]}, "the answer is turn 3"),
        ({"utterance": [{"dialogue1": ["q", " "]}]}, "dialogue 'd1': the answer of 'dialogue1' is"),
        (
            {"utterance": [{"dialogue1": ["", "a"]}]},
            "dialogue 'd1': item 1 of 'dialogue1' is empty",
        ),
        ({"utterance": [{"dialogue1": ["q", "\ud83d"]}]}, "half of a surrogate pair"),
        ({"dialogID": None}, "dialogue number 1: it needs a 'dialogID'"),
        ({"dialogID": "d0"}, "dialogue 'd0': 2 dialogues have this id"),
    ],
)
def test_a_bad_dialogue_is_named(tmp_path, change, message):
    entry = focus_entry() | change
    path = write(
        tmp_path, [entry] if change.get("dialogID") != "d0" else [focus_entry("d0"), entry]
    )
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_dialogues(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_another_encoding_is_named_with_its_dialogue(tmp_path):
    path = tmp_path / "focus.json"
    entries = [focus_entry("d1"), focus_entry("d2", persona=["I love Café Zoë."])]
    path.write_bytes(json.dumps({"data": entries}, ensure_ascii=False).encode("latin-1"))
    with pytest.raises(UserError, match=r"in or after dialogue 'd2': byte \d+ is not UTF-8"):
        read_dialogues(path)


def test_other_scripts_and_a_byte_order_mark_are_read(tmp_path):
    path = tmp_path / "focus.json"
    persona = ["Ich liebe Köln.", "我喜欢长城。", "أحب البحر", "🌊"]
    text = json.dumps(
        {"data": [focus_entry(persona=persona, marks=[True] * 4)]}, ensure_ascii=False
    )
    path.write_text(text, encoding="utf-8-sig")
    assert read_dialogues(path)[0].persona == tuple(persona)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 1, "persona": ["a"], "turns": ["q"]}', "the answer of 'golden_answer' is empty"),
        ('{"id": 1, "persona": ["a"], "turns": ["q"], "x": 1}', "unknown key 'x'"),
        ('{"persona": ["a"], "turns": ["q"], "golden_answer": "r"}', "line 2: it needs a 'id'"),
        ('{"id": 7, "persona": ["a"', "line 2, in or after dialogue '7': not valid JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "plain.jsonl"
    good = {"id": "a", "persona": ["I sail."], "turns": ["q"], "golden_answer": "r"}
    path.write_text(json.dumps(good) + "\n" + line)
    with pytest.raises(UserError, match=re.escape(message)):
        read_dialogues(path)


@pytest.mark.parametrize(("name", "message"), [("x.tsv", "unknown kind"), ("x.json", "no such")])
def test_a_wrong_file(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        read_dialogues(tmp_path / name)


PUBLISHED = "personas,context,act_response\n"


def published(tmp_path, *rows, header=PUBLISHED):
    path = tmp_path / "train.csv"
    path.write_bytes((header + "\n".join(rows)).encode())
    return path


def test_published_prompts(tmp_path):
    context = '"User1: Wow, ""this""!\nUser2: It is.\nSecond line.\nUser1: How old?"'
    path = published(tmp_path, f"I sail.I ski., {context},User2: Old.".replace(", ", ","))
    (dialogue,) = read_dialogues(path, "valid-")
    assert dialogue.id == "valid-0"
    assert dialogue.persona == ("I sail.", "I ski.")
    assert dialogue.turns == ('Wow,"this"!', "It is.\nSecond line.", "How old?")
    assert dialogue.golden_answer == "Old."


@pytest.mark.parametrize(
    ("personas", "sentences"),
    [
        ("I like tea.I sail.", ["I like tea.", "I sail."]),
        ("I live in the U.S.A.I ski.", ["I live in the U.S.A.", "I ski."]),
        ("I like Washington D.C.I ski!I row", ["I like Washington D.C.", "I ski!", "I row"]),
        ("I read J.K. Rowling.I like history,I sail.",
         ["I read J.K. Rowling.", "I like history,", "I sail."]),
        ("I own a Fiat S.p.A. car.I row.", ["I own a Fiat S.p.A. car.", "I row."]),
        ("I like tea. And cake.I row.", ["I like tea. And cake.", "I row."]),
        ('I like ""Why?"".I row.', ['I like "Why?".', "I row."]),
        ('I row.""Alice"" is my book.', ["I row.", '"Alice" is my book.']),
        ('I like ""Who?""', ['I like "Who?"']),
        ("I watch the U.S opens.I row.", ["I watch the U.S opens.", "I row."]),
        ("I know the U.S.A and Rome.I row.", ["I know the U.S.A and Rome.", "I row."]),
        # ConvAI2's, with a blank before or behind the full stop, or none
        ("i like dogs.i have a cat.my wife sails.",
         ["i like dogs.", "i have a cat.", "my wife sails."]),
        ("i have 3 kids . 2 are boys .", ["i have 3 kids .", "2 are boys ."]),
        ("i am 5.5 feet tall. i know mr. smith.", ["i am 5.5 feet tall.", "i know mr. smith."]),
        ("i live in the u.s. i use node.js a lot.", ["i live in the u.s.", "i use node.js a lot."]),
        ("i came in oct. of 2001. the sea!we row",
         ["i came in oct. of 2001.", "the sea!", "we row"]),
        ("iPhones are mine. I like www.rome.com. it is old",
         ["iPhones are mine.", "I like www.rome.com.", "it is old"]),
    ],
)  # fmt: skip
def test_published_personas_are_split_into_sentences(tmp_path, personas, sentences):
    (dialogue,) = read_dialogues(published(tmp_path, f'"{personas}",User1: A?,User2: B.'))
    assert list(dialogue.persona) == sentences


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("I sail.,A?,User2: B.", "line 2, dialogue '0': the turns of 'context' must begin with"),
        ("I sail.,User2: A?,User2: B.", "the turns of 'context' must begin with 'User1: '"),
        ('I sail.,"User1: A\nUser1: B?",User2: C', "the turns of 'context' must begin with"),
        ('I sail.,"User1: A\nUser2: B",User2: C', "human and machine take turns"),
        (",User1: A?,User2: B.", "item 1 of 'personas' is empty"),
        ("I sail.,User1: A?,User2: ", "the answer of 'act_response' is empty"),
        ("I sail.,User1: A?,User2: Old, very old.", "it has more fields than the header"),
        ("I sail.", "must be a list with at least one sentence"),
        ('I sail.,"User1: A', "not valid CSV"),
        ('I sail.,"User1: A"x,b', "not valid CSV"),
    ],
)
def test_broken_published_prompts(tmp_path, row, message):
    with pytest.raises(UserError) as caught:
        read_dialogues(published(tmp_path, row))
    assert message in str(caught.value)
    assert str(tmp_path / "train.csv") in str(caught.value)


def test_published_prompts_with_other_line_ends(tmp_path):
    path = published(tmp_path, 'I sail.,"User1: A?\rUser2: B\u2028b.\r\nUser1: C", User2: D ')
    (dialogue,) = read_dialogues(path)
    assert (dialogue.turns, dialogue.golden_answer) == (("A?", "B\u2028b.", "C"), "D")


def test_published_prompts_without_a_column(tmp_path):
    with pytest.raises(UserError, match="there is no column 'context'; published prompts have"):
        read_dialogues(published(tmp_path, "a,b", header="personas,act_response\n"))
