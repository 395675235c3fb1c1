import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persodpo.errors import UserError
from persodpo.records import Prompt, iterate_rows, read_rows, write_rows, write_text

unicode_text = st.text(st.characters(codec="utf-8"))
prompt_rows = st.builds(
    Prompt, id=unicode_text, persona=st.lists(unicode_text), turns=st.lists(unicode_text),
    golden_answer=unicode_text, text=unicode_text,
)  # fmt: skip


@given(rows=st.lists(prompt_rows, max_size=4))
def test_rows_survive_writing(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "folder" / "rows.jsonl"
    write_rows(path, rows)
    assert read_rows(path, Prompt) == rows


def test_a_bad_line_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    good = Prompt(id="a", persona=[], turns=[], golden_answer="", text="").model_dump_json()
    path.write_text(f"{good}\n{good.replace('persona', 'person')}\n")
    with pytest.raises(UserError, match=r"rows.jsonl, line 2: not a row of type Prompt \(person"):
        read_rows(path, Prompt)


def test_a_missing_file_names_the_way_out(tmp_path):
    with pytest.raises(UserError, match="dvc repro"):
        read_rows(tmp_path / "rows.jsonl", Prompt)


def test_lines_end_in_any_way_and_may_be_empty(tmp_path):
    rows = [Prompt(id=i, persona=["\u2028"], turns=[], golden_answer="", text="") for i in "ab"]
    first, second = (row.model_dump_json().encode() for row in rows)
    path = tmp_path / "rows.jsonl"
    for text in (
        first + b"\n" + second,
        b"\n" + first + b"\n\n" + second + b"\n",
        b"\r\n".join([first, b"", second, b""]),
    ):
        path.write_bytes(text)
        assert read_rows(path, Prompt) == list(iterate_rows(path, Prompt)) == rows


def test_rows_before_a_mistake_are_given(tmp_path):
    path = tmp_path / "rows.jsonl"
    row = Prompt(id="a", persona=[], turns=[], golden_answer="", text="")
    path.write_text(row.model_dump_json() + "\n{\n")
    rows = iterate_rows(path, Prompt)
    assert next(rows) == row
    with pytest.raises(UserError, match=r"rows.jsonl, line 2: not a row of type Prompt \("):
        next(rows)


@pytest.mark.parametrize("mend", [None, "name another file"])
def test_what_is_no_text_is_one_sentence(tmp_path, mend):
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('\n{"id": "é"}'.encode("latin-1"))
    for path, message in (
        (latin, f"{latin}, line 2: not a row of type Prompt (invalid JSON: "),
        (tmp_path, f"{tmp_path}: can't be read ("),
    ):
        with pytest.raises(UserError) as caught:
            read_rows(path, Prompt, mend)
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)
        assert str(caught.value).endswith(f"; {mend or 'run the stage that writes it again'}.")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "new \ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208
