"""The results page: its data, and its reader of examples against pandas."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_browser import (
    BLOCKS,
    CANDIDATES,
    METRICS,
    PROMPTS,
    TABLE,
    TIMELESS,
    A,
    B,
    expected,
    ids,
    open_example,
    prompt,
    row,
    set_controls,
)

from persodpo.report.page import examples_data, render_page

pytest_plugins = ["page_browser"]


def test_data_of_a_small_table():
    prompts = [prompt("two"), prompt("one")]
    table = pd.DataFrame(
        [
            row("z", "one", raw="r", words=3, coh=np.nan),
            row("z", "two", "salvaged", seconds=np.nan),
            row("a", "two", "none", answer=None, raw=""),
            row("a", "one", c=-1.0),
        ]
    )
    data = examples_data(prompts, table, METRICS)
    assert data["candidates"] == ["z", "a"]
    assert [measure["label"] for measure in data["measures"]] == [
        "S_total ↑", "Coh ↑", "C ↑", "Distance ↓", "Words", "Seconds",
    ]  # fmt: skip
    two, one = data["prompts"]
    assert (two["id"], two["golden_answer"]) == ("two", "At noon.")
    assert two["persona_of"] == "User1"
    of_machine = prompts[1].model_copy(update={"persona_of": "machine"})
    other = examples_data([of_machine], table, METRICS)["prompts"]
    assert [each["persona_of"] for each in other] == ["User2"]
    assert one["answers"] == [
        {"contract": "valid", "text": "Now.", "values": [0.5, None, 0.0, 0.5, 3, 0.5]},
        {"contract": "valid", "text": "Now.", "values": [0.5, 0.5, -1.0, 0.5, 1, 0.5]},
    ]
    assert two["answers"] == [
        {"contract": "salvaged", "text": "{Now.}", "values": [0.5, 0.5, 0.0, 0.5, 1, None]},
        {"contract": "none", "text": "", "values": [0.5, 0.5, 0.0, 0.5, 1, 0.5]},
    ]


@pytest.mark.slow
@given(st.text() | st.text("</script!->&'\"\u2028\r\n\0"))
def test_no_text_leaves_its_script_element(text):
    prompts, table = [prompt(text, [text], [text], text)], pd.DataFrame([row(text, text)])
    examples = examples_data(prompts, table.assign(answer=text), METRICS)
    _, rest = render_page("Results", {}, [], examples).split('id="examples-data">')
    data = rest.split("</script>")[0]
    assert "<" not in data
    assert json.loads(data) == examples


@pytest.mark.slow
def test_a_page_without_texts_has_no_script(browser, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(render_page("Results", {"Commit": "abc"}, BLOCKS, None), encoding="utf-8")
    assert not any(text in file.read_text() for text in ("<script", "examples", "I ski."))
    page = browser.new_page()
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(file.as_uri())
    assert page.inner_text("h1") == "Results"
    assert page.locator("table").count() == page.locator("svg").count() == 1
    assert complaints == []
    page.close()


@pytest.mark.slow
def test_opens_without_a_request_or_a_complaint(new_page, url):
    page = new_page(url)
    assert page.inner_text("#count") == "1000 of 1000 prompts"
    assert page.locator("#results summary").count() == 25


def test_the_policy_stops_scripts_and_requests(browser, url):
    page = browser.new_page()
    page.goto(url)
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = true';
            document.body.append(script);
        }"""
    )
    assert page.evaluate("window.ran === undefined")
    assert page.evaluate("fetch(location.href).then(() => 'fetched', () => 'stopped')") == "stopped"
    page.close()


VIEWS = [
    {},
    {"order": "lowest"},
    {"order": "highest"},
    {"measure": "c", "order": "highest", "a": B},
    {"measure": "coh", "order": "lowest", "a": B},
    {"measure": "coh", "order": "highest", "a": A, "b": B},
    {"measure": "d", "order": "lowest", "a": B, "b": A, "min": 0.2},
    {"measure": "d", "order": "highest", "max": 0.29, "state": "failed"},
    {"measure": "s_total", "b": B, "min": 0.2, "max": 0.2},
    {"measure": "words", "order": "lowest", "b": B, "min": -3.5, "max": 10, "state": "valid"},
    {"measure": "seconds", "order": "highest", "a": A, "b": TIMELESS},
    {"measure": "seconds", "min": 0, "a": TIMELESS},
    {"measure": "seconds", "order": "lowest", "a": B, "b": B},
    {"q": " zEBRA  bora"},
    {"q": "zebra {", "state": "failed", "order": "lowest", "measure": "c"},
    {"q": "zebrabora"},
]


@pytest.mark.slow
@pytest.mark.parametrize("view", VIEWS)
def test_shows_what_pandas_finds(opened, view):
    set_controls(opened, view)
    wanted = expected(**view)
    assert ids(opened) == wanted[:25]
    assert opened.inner_text("#count") == f"{len(wanted)} of 1000 prompts"


@pytest.mark.slow
def test_all_pages(opened):
    view = {"measure": "coh", "order": "lowest", "state": "failed"}
    set_controls(opened, view)
    found = ids(opened)
    while opened.is_enabled("#next"):
        opened.click("#next")
        found += ids(opened)
    assert found == expected(**view)
    opened.click("#previous")
    assert len(ids(opened)) == 25


def test_an_example_has_all_that_is_known_of_it(opened):
    set_controls(opened, {"a": B, "b": TIMELESS})
    open_example(opened, 1)
    one = PROMPTS[1]
    rows = TABLE[TABLE["id"] == one.id].set_index("model")
    example = opened.locator(".example")
    assert example.locator(".context ul li").all_text_contents() == one.persona
    assert example.locator(".dialogue li").all_text_contents() == [
        f"User{1 + i % 2}{turn}" for i, turn in enumerate(one.turns)
    ]
    assert example.locator(".context .answer").text_content() == one.golden_answer
    order = [B, TIMELESS] + [name for name in CANDIDATES if name not in {B, TIMELESS}]
    cards = example.locator(".card")
    assert cards.locator(".name").all_text_contents() == order
    assert example.locator(".chosen .mark").all_text_contents() == ["A", "B"]
    for card, name in zip(cards.all(), order, strict=True):
        response = rows.loc[name]
        valid = response["contract"] == "valid"
        assert card.locator(".answer").text_content() == response["answer" if valid else "raw"]
        assert ("failed" in card.locator(".contract").text_content()) == (not valid)
        values = card.locator("dd").all_text_contents()
        assert values[4] == str(response["words"])
        assert values[0] == f"{response['s_total']:.3f}"
        assert (values[5] == "n/a") == (name == TIMELESS)
    # and it stays open when the list changes around it
    opened.select_option("[name=measure]", "words")
    assert opened.locator("details[open] .example").count() == 1
