import json

import pandas as pd
import pytest

from persodpo.config.models import LoggedModel
from persodpo.errors import UserError
from persodpo.generate.logged import read_logged
from persodpo.generate.run import generate_responses


def logged(file, **changes):
    values = {"backend": "logged", "file": str(file), "text_column": "text", "wrapped": True,
              "split": "train", "id_column": None, "seconds_column": None}  # fmt: skip
    return LoggedModel(**(values | changes))


@pytest.fixture
def table(prompts):
    texts = ['{"response": "one"}', "null", "", '{"response": "a", "b": 1}', "7", 'x\n"y",']
    return pd.DataFrame({"id": [p.id for p in prompts], "text": texts, "took": 1.5})


def answers(table, path, prompts, generate, **changes):
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    elif path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_json(path, orient="records", lines=True)
    return generate_responses("old", logged(path, **changes), prompts, generate, 110).responses


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "xlsx"])
@pytest.mark.parametrize("by_id", [True, False])
def test_each_prompt_gets_its_response(table, tmp_path, prompts, generate, suffix, by_id):
    if by_id:
        table = table.sample(frac=1, random_state=0)
    else:  # by the row's number, in whatever order the prompts were drawn
        prompts = [p.model_copy(update={"id": str(i)}) for i, p in enumerate(prompts)]
    extra = pd.DataFrame([{"id": "not drawn", "text": "z", "took": 9.0}])
    table = pd.concat([table, extra])
    rows = answers(table, tmp_path / f"log.{suffix}", prompts[::-1], generate,
                   id_column="id" if by_id else None, seconds_column="took")  # fmt: skip
    assert [row.id for row in rows] == [p.id for p in prompts[::-1]]
    rows = rows[::-1]
    assert [row.raw for row in rows] == ['{"response": "one"}', "null", "",
                                         '{"response": "a", "b": 1}', "7", 'x\n"y",']  # fmt: skip
    assert [row.contract for row in rows] == ["valid", "none", "none", "salvaged", "none", "none"]
    assert {(row.seconds, row.finish_reason, row.request_key) for row in rows} == {
        (1.5, "logged", None)
    }


def test_the_contract_is_a_setting(table, tmp_path, prompts, generate):
    released = generate.model_copy(update={"contract": "released"})
    rows = answers(table, tmp_path / "log.csv", prompts, released, id_column="id")
    assert [row.contract for row in rows][3] == "valid"


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (
            lambda t: t,
            {},
            r"\(6 prompts have none\); without models\.old\.id_column a row's",
        ),
        (lambda t: t[1:], {"id_column": "id"}, r"there is no row for prompt .* \(1 prompts have"),
        (lambda t: pd.concat([t, t[:1]]), {"id_column": "id"}, "stands there twice"),
        (
            lambda t: t,
            {"text_column": "said", "id_column": "id"},
            "no column 'said', which models.old.text_column names",
        ),
        (
            lambda t: t.assign(took="long"),
            {"seconds_column": "took", "id_column": "id"},
            "column 'took': 'long' is no time in seconds",
        ),
        (
            lambda t: t.assign(took=[1.0, 2.0, float("inf"), 1.0, 1.0, 1.0]),
            {"seconds_column": "took", "id_column": "id"},
            "column 'took': 'inf' is no time in seconds",
        ),
        (
            lambda t: t.assign(id=[*t["id"][:3], "", *t["id"][4:]]),
            {"id_column": "id"},
            "row 4: its 'id', the id of its prompt, is empty; fill it in",
        ),
    ],
)
def test_what_does_not_fit_is_reported(
    table, tmp_path, prompts, generate, change, settings, message
):
    with pytest.raises(UserError, match=message):
        answers(change(table), tmp_path / "log.csv", prompts, generate, **settings)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
def test_a_byte_order_mark(tmp_path, prompts, generate, suffix):
    rows = [{"id": prompt.id, "text": f"answer {prompt.id}"} for prompt in prompts]
    path = tmp_path / f"log.{suffix}"
    if suffix in ("csv", "tsv"):
        separator = "," if suffix == "csv" else "\t"
        pd.DataFrame(rows).to_csv(path, index=False, sep=separator, encoding="utf-8-sig")
    else:
        lines = "\n".join(map(json.dumps, rows))
        path.write_text(lines if suffix == "jsonl" else json.dumps(rows), encoding="utf-8-sig")
    model = logged(path, id_column="id")
    found = generate_responses("old", model, prompts, generate, 110).responses
    assert [row.raw for row in found] == [f"answer {prompt.id}" for prompt in prompts]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "xlsx"])
def test_empty_and_nan_times_are_unknown(table, tmp_path, prompts, generate, suffix):
    table["took"] = [1.5, None, float("nan"), 0, None, 2]
    if suffix != "xlsx":
        table["took"] = table["took"].astype(object).where(table["took"].notna(), "NaN")
    rows = answers(table, tmp_path / f"log.{suffix}", prompts, generate, id_column="id",
                   seconds_column="took")  # fmt: skip
    assert [row.seconds for row in rows] == [1.5, None, None, 0.0, None, 2.0]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "xlsx"])
@pytest.mark.parametrize("ids", [int, float, str])
def test_numbers_as_ids(table, tmp_path, prompts, generate, suffix, ids):
    """Also where a spreadsheet has made 7.0 of 7, and a further row has no text."""
    prompts = [p.model_copy(update={"id": str(i)}) for i, p in enumerate(prompts)]
    table["id"] = [ids(i) for i in range(len(table))]
    table["text"] = table["text"].replace("null", None)
    rows = answers(table, tmp_path / f"log.{suffix}", prompts[::-1], generate, id_column="id")
    assert [row.raw for row in rows[::-1]][:2] == ['{"response": "one"}', ""]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"response": "a"}, r"column 'text': a text is wanted, not \{\"response\": \"a\"\}"),
        (["a"], r"column 'text': a text is wanted, not \[\"a\"\]"),
        (True, "column 'text': a text is wanted, not true"),
    ],
)
def test_a_text_field_that_holds_an_object(tmp_path, prompts, generate, value, message):
    rows = [{"id": prompt.id, "text": "a"} for prompt in prompts]
    rows[2]["text"] = value
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = logged(tmp_path / "a.jsonl", id_column="id")
    with pytest.raises(UserError, match=f"the row of prompt '{prompts[2].id}', {message}"):
        generate_responses("old", model, prompts, generate, 110)
    rows[2]["text"] = 7.0
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert generate_responses("old", model, prompts, generate, 110).responses[2].raw == "7"


def test_thoughts_in_a_published_response(tmp_path, prompts, generate):
    text = '<think>Shorter: {"response": "No."}</think>{"response": "Yes, do."}'
    pd.DataFrame({"text": [text]}).to_csv(tmp_path / "a.csv", index=False)
    prompt = prompts[0].model_copy(update={"id": "0"})
    (row,) = generate_responses("old", logged(tmp_path / "a.csv"), [prompt], generate, 9).responses
    assert (row.answer, row.words, row.raw) == ("Yes, do.", 2, '{"response": "Yes, do."}')
    assert row.thoughts == '<think>Shorter: {"response": "No."}</think>'


def test_a_file_that_is_no_table_is_reported(tmp_path, prompts, generate):
    with pytest.raises(UserError, match=r"models\.old\.file is .* which doesn't exist"):
        generate_responses("old", logged(tmp_path / "no.csv"), prompts, generate, 110)
    for name, content in [("a.csv", b""), ("b.csv", b'x,text\n"1'), ("c.jsonl", b'{"text"'),
                          ("d.csv", b"text\n\xff\xfe"), ("f.xlsx", b"text\n1")]:  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: not a table"):
            generate_responses("old", logged(tmp_path / name), prompts, generate, 110)
    (tmp_path / "long.csv").write_text("id,text\n0,hello,junk\n1,bye,junk\n")
    with pytest.raises(UserError, match="more fields than its header"):
        generate_responses("old", logged(tmp_path / "long.csv"), prompts, generate, 110)
    with pytest.raises(UserError, match="not a table"):
        generate_responses("old", logged(tmp_path), prompts, generate, 110)
    (tmp_path / "e.jsonl").write_text(json.dumps({"text": "a"}) + "\n")
    with pytest.raises(UserError, match=r"no row for prompt .* \(6 prompts"):
        generate_responses("old", logged(tmp_path / "e.jsonl"), prompts, generate, 110)


def test_answers_without_their_json_are_put_into_it_again(tmp_path, prompts, generate):
    texts = [f'"{i}" {{old}}' for i in range(len(prompts))]
    texts[2] = " "
    table = pd.DataFrame({"id": [p.id for p in prompts], "text": texts})
    rows = answers(table, tmp_path / "a.csv", prompts, generate, id_column="id", wrapped=False)
    assert [row.answer for row in rows] == [None if i == 2 else t for i, t in enumerate(texts)]
    assert [row.contract for row in rows].count("none") == 1


def numbered(prompts):
    """With the numbers of rows as ids, as published ones have them."""
    return [prompt.model_copy(update={"id": str(i)}) for i, prompt in enumerate(prompts[:4])]


@pytest.mark.parametrize("empty", ["", '""', " "])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_empty_line_of_one_column_is_an_answer(tmp_path, prompts, empty, place):
    """Rows are told by their numbers, so none may be passed over."""
    lines = [json.dumps(f'{{"response": "a{i}"}}').replace('\\"', '""') for i in range(5)]
    lines[place] = empty
    (tmp_path / "a.csv").write_text("\n".join(["text", *lines]) + "\n")
    section = logged(tmp_path / "a.csv", id_column=None, seconds_column=None)
    found = read_logged("m", section, numbered(prompts))
    for number, answer in enumerate(found):
        assert answer.raw.strip() == ("" if number == place else f'{{"response": "a{number}"}}')


def test_an_empty_line_of_several_columns_is_none(tmp_path, prompts):
    rows = [f"a{i},{i}" for i in range(len(prompts))]
    (tmp_path / "a.csv").write_text("\n".join(["text,seconds", rows[0], "", *rows[1:]]) + "\n\n")
    section = logged(tmp_path / "a.csv", id_column=None, seconds_column=None)
    found = read_logged("m", section, numbered(prompts))
    assert [answer.raw for answer in found] == [f"a{i}" for i in range(4)]


def test_rows_of_validation_prompts_are_those_of_no_training_prompt(tmp_path, prompts, generate):
    published = [p.model_copy(update={"id": f"valid-{i}"}) for i, p in enumerate(prompts)]
    table = pd.DataFrame({"text": [json.dumps({"response": f"a{i}"}) for i in range(9)]})
    rows = answers(table, tmp_path / "a.csv", published[::-1], generate, split="valid")
    assert [row.answer for row in rows] == [f"a{i}" for i in range(len(prompts))][::-1]
    with pytest.raises(UserError, match="there is no row for prompt 'valid-0'"):
        answers(table, tmp_path / "a.csv", published, generate)
