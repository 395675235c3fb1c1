import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import sync_playwright

from persodpo.records import Prompt
from persodpo.report.page import Block, examples_data, render_page
from persodpo.score.metric import Metric

METRICS = {
    "coh": Metric("Coh", low=0, high=1, worst=0, version=1, needs=()),
    "c": Metric("C", low=-1, high=1, worst=-1, version=1, needs=()),
    "d": Metric("Distance", low=0, high=1, worst=1, version=1, needs=(), higher_is_better=False),
}
CANDIDATES = [f"candidate_{letter}" for letter in "hgfedcba"]
SVG = '<svg viewBox="0 0 300 100"><text y="50" fill="currentColor">A figure</text></svg>'
CELLS = {f"A long title {i} ↑": ["0.12 ± 0.34", "n/a"] for i in range(9)}
BLOCKS = [
    Block("Metrics", "One.\n\nTwo.", pd.DataFrame(CELLS, ["base", "persodpo_unweighted"])),
    Block("Figure", "", None, SVG),
]


def prompt(id, persona=("I ski.",), turns=("Where?", "There.", "When?"), golden_answer="At noon."):
    return Prompt(
        id=id, persona=list(persona), turns=list(turns), golden_answer=golden_answer, text=""
    )


def row(model, id, contract="valid", answer="Now.", raw="{Now.}", **values):
    rest = {"words": 1, "seconds": 0.5, "s_total": 0.5, "coh": 0.5, "c": 0.0, "d": 0.5}
    return {"model": model, "id": id, "contract": contract, "answer": answer,
            "raw": raw} | rest | values  # fmt: skip


def sample():
    """1,000 prompts and eight answers to each; values with many ties and gaps."""
    rng = np.random.default_rng(0)
    # many common words, and a rare one
    words = [f"{a}{b}ra" for a in "bcdfghklmnprstvw" for b in "aeiou"] + ["Zebra"]
    rates = np.array([1.0] * (len(words) - 1) + [0.02])
    flow = iter(rng.choice(words, 900_000, p=rates / rates.sum()).tolist())

    def text(low, high):
        return " ".join(next(flow) for _ in range(rng.integers(low, high)))

    prompts = []
    for i in rng.permutation(1000):
        persona = [text(5, 9) for _ in range(5)]
        turns = [text(8, 40) for _ in range(7)]
        prompts.append(prompt(f"p-{i}", persona, turns, golden_answer=text(30, 60)))
    rows = []
    for model in CANDIDATES:
        for one in prompts:
            contract = rng.choice(["valid", "salvaged", "none"], p=[0.7, 0.2, 0.1])
            answer = text(30, 90)
            rows.append(
                row(
                    model,
                    one.id,
                    contract=contract,
                    answer=None if contract == "none" else answer,
                    raw=f'{{"response": "{answer} {text(1, 5)}',
                    words=len(answer.split()),
                    seconds=np.nan if model == CANDIDATES[3] else rng.gamma(2.0),
                    s_total=round(rng.uniform(0, 1.3), 1),
                    coh=rng.uniform(0, 1) if rng.uniform() < 0.7 else np.nan,
                    c=float(rng.integers(-1, 2)),
                    d=round(rng.uniform(0, 1), 2),
                )
            )
    return prompts, pd.DataFrame(rows)


PROMPTS, TABLE = sample()


def written(folder, prompts, table, **changes):
    """The URL of a page with these examples."""
    parts = {"title": "Results", "facts": {"Commit": "abc"}, "blocks": BLOCKS}
    examples = examples_data(prompts, table, METRICS)
    file = folder / "report.html"
    # as bytes: line ends stay as they are
    file.write_bytes(render_page(**parts | changes, examples=examples).encode())
    return file.as_uri()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return written(tmp_path_factory.mktemp("page"), PROMPTS, TABLE)


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser):
    """Makes pages; none of them may complain, open a dialog or ask for another file."""
    contexts, complaints, visited, requests = [], [], set(), set()

    def make(url, **settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.add(request.url.split("#")[0]))
        visited.add(url.split("#")[0])
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []
    # the empty icon is a data URL
    assert {request for request in requests if not request.startswith("data:")} == visited


@pytest.fixture(scope="module")
def opened(browser, url):
    """One open page for tests that start with a reset."""
    page = browser.new_page()
    page.set_default_timeout(10_000)
    page.goto(url)
    yield page
    page.close()


def ids(page):
    return page.locator("#results .id").all_text_contents()


def set_controls(page, controls):
    page.click("#restart")
    for name, value in controls.items():
        control = page.locator(f"[name={name}]")
        if name in {"q", "min", "max"}:
            control.fill(str(value))
        else:
            control.select_option(value)


def open_example(page, number):
    page.locator("summary").nth(number).click()
    # it is filled a moment after
    page.wait_for_selector("details[open] .example")


def expected(
    q="", measure="s_total", a=CANDIDATES[0], b="", state="all", order="sampled", **limits
):
    """The ids that the reader should show, by pandas."""
    wide = TABLE.pivot(index="id", columns="model").loc[[prompt.id for prompt in PROMPTS]]
    value = wide[measure][a].astype(float)
    if b:
        value = (value - wide[measure][b]).round(9)
    valid = wide["contract"][a] == "valid"
    keep = {"all": valid | True, "valid": valid, "failed": ~valid}[state]
    for word in q.lower().split():
        keep &= SEARCHED.str.contains(word, regex=False)
    if "min" in limits:
        keep &= value >= limits["min"]
    if "max" in limits:
        keep &= value <= limits["max"]
    value = value[keep]
    if order != "sampled":
        value = value.sort_values(ascending=order == "lowest", kind="stable", na_position="last")
    return value.index.tolist()


def searched():
    shown = TABLE["answer"].where(TABLE["contract"] == "valid", TABLE["raw"])
    answers = shown.groupby(TABLE["id"]).agg(" ".join)
    texts = {one.id: " ".join([*one.persona, *one.turns, one.golden_answer]) for one in PROMPTS}
    return (pd.Series(texts) + " " + answers[list(texts)]).str.lower()


SEARCHED = searched()


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
    assert one["answers"] == [
        {"contract": "valid", "text": "Now.", "values": [0.5, None, 0.0, 0.5, 3, 0.5]},
        {"contract": "valid", "text": "Now.", "values": [0.5, 0.5, -1.0, 0.5, 1, 0.5]},
    ]
    assert two["answers"] == [
        {"contract": "salvaged", "text": "{Now.}", "values": [0.5, 0.5, 0.0, 0.5, 1, None]},
        {"contract": "none", "text": "", "values": [0.5, 0.5, 0.0, 0.5, 1, 0.5]},
    ]


@given(st.text() | st.text("</script!->&'\"\u2028\r\n\0"))
def test_no_text_leaves_its_script_element(text):
    prompts, table = [prompt(text, [text], [text], text)], pd.DataFrame([row(text, text)])
    examples = examples_data(prompts, table.assign(answer=text), METRICS)
    _, rest = render_page("Results", {}, [], examples).split('id="examples-data">')
    data = rest.split("</script>")[0]
    assert "<" not in data
    assert json.loads(data) == examples


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


A, B, TIMELESS = CANDIDATES[0], CANDIDATES[5], CANDIDATES[3]
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


@pytest.mark.parametrize("view", VIEWS)
def test_shows_what_pandas_finds(opened, view):
    set_controls(opened, view)
    wanted = expected(**view)
    assert ids(opened) == wanted[:25]
    assert opened.inner_text("#count") == f"{len(wanted)} of 1000 prompts"


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


def test_a_narrow_touch_screen(new_page, url):
    size = {"width": 390, "height": 844}
    page = new_page(url, viewport=size, has_touch=True, is_mobile=True)

    def width():
        return page.evaluate("document.documentElement.scrollWidth")

    assert width() <= 390
    page.tap("[name=q]")
    page.keyboard.type("zebra")
    page.locator("summary").nth(2).tap()
    page.wait_for_selector("details[open] .example")
    page.locator(".card").last.scroll_into_view_if_needed()
    assert width() <= 390
    page.tap("#next")
    assert ids(page) == expected(q="zebra")[25:50]
    page.tap("#restart")
    assert ids(page) == expected()[:25]
    low = page.locator("input, select, button, summary, nav a").evaluate_all(
        "all => all.filter((one) => one.getBoundingClientRect().height < 40).length"
    )
    assert low == 0
    # the wide table scrolls in its own box, and its first column stays
    page.evaluate("document.querySelector('.scroll').scrollLeft = 1000")
    assert page.locator("tbody th").first.bounding_box()["x"] < 40


def tab_to(page, selector):
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{selector} is out of the keyboard's reach")


def test_by_keyboard_only(new_page, url):
    page = new_page(url)
    tab_to(page, "[name=q]")
    page.keyboard.type("zebra")
    assert ids(page) == expected(q="zebra")[:25]
    tab_to(page, "summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("details[open] .example")
    tab_to(page, "#next")
    page.keyboard.press("Enter")
    assert ids(page) == expected(q="zebra")[25:50]
    tab_to(page, "summary")
    assert page.evaluate("document.activeElement.querySelector('.id').textContent") == ids(page)[0]


def test_hostile_texts_are_shown_as_texts(new_page, tmp_path):
    texts = [
        "</script><script>alert(1)</script>",
        "<!-- <script> <img src=x onerror=alert(1)>",
        "\u2028\u2029 \u202e \0 \r\n ${alert(1)} {{ 1 }} &lt; \\u003c",
        "]]> ' \" --></title></style><svg onload=alert(1)>",
    ]
    prompts = [prompt(texts[0], texts, texts, texts[1])]
    table = pd.DataFrame([row(text, texts[0], answer=text) for text in texts])
    frame = pd.DataFrame({texts[0]: [texts[1]]}, pd.Index([texts[3]], name=texts[1]))
    url = written(
        tmp_path,
        prompts,
        table,
        title=texts[0],
        facts={texts[1]: texts[3]},
        blocks=[Block(texts[3], texts[0], frame), Block(texts[1], "", None, SVG)],
    )
    page = new_page(url)
    assert page.title() == page.inner_text("h1") == texts[0]
    assert page.locator("td").text_content() == texts[1]
    for name in ("a", "b"):
        page.select_option(f"[name={name}]", texts[3])
    page.fill("[name=q]", "</script>")
    open_example(page, 0)
    assert page.locator(".context ul li").all_text_contents() == texts
    answers = page.locator(".card .answer").all_text_contents()
    assert answers == [texts[3], *texts[:3]]
    page.reload()
    assert page.input_value("[name=a]") == texts[3]


# Of every element that has a text of its own: the colours of the text and of what is behind it.
COLOURS = """() => {
    const behind = (element) => {
        const colour = getComputedStyle(element).backgroundColor;
        return colour === 'rgba(0, 0, 0, 0)' ? behind(element.parentElement) : colour;
    };
    const hasText = (element) =>
        [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    return [...document.querySelectorAll('body *:not(script, noscript, svg *)')]
        .filter(hasText)
        .map((element) => [getComputedStyle(element).color, behind(element)]);
}"""


def luminance(colour):
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(pair):
    low, high = sorted(map(luminance, pair))
    return (high + 0.05) / (low + 0.05)


def test_light_and_dark(new_page, url):
    backgrounds = []
    for scheme in ("light", "dark"):
        page = new_page(url + f"#examples?b={B}", color_scheme=scheme, reduced_motion="reduce")
        open_example(page, 0)
        colours = page.evaluate(COLOURS)
        assert page.locator(".failed").count() > 0
        assert min(map(contrast, colours)) >= 4.5
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    light, dark = map(luminance, backgrounds)
    assert light > 0.8
    assert dark < 0.05


def test_the_address_leads_to_the_same_view(new_page, url):
    view = {"measure": "d", "a": B, "b": A, "order": "highest", "max": 0.5, "q": "bora fu"}
    page = new_page(url)
    set_controls(page, view)
    page.click("#next")
    again = new_page(page.url)
    assert ids(again) == ids(page) == expected(**view)[25:50]
    assert again.inner_text("#page-number") == page.inner_text("#page-number")
    # another address in the same page, as by the back button
    again.goto(url + f"#examples?a={B}&order=lowest")
    assert ids(again) == expected(a=B, order="lowest")[:25]
    # the page's other anchors leave the view as it is
    again.click("nav a >> nth=0")
    assert ids(again) == expected(a=B, order="lowest")[:25]


def test_a_wrong_address_shows_the_default(new_page, url):
    page = new_page(url + "#examples?a=nobody&measure=x&min=low&page=-3&toString=1&order=highest")
    assert ids(page) == expected(order="highest")[:25]
    page = new_page(url + "#examples?page=999")
    assert ids(page) == expected()[-25:]


def test_without_javascript(new_page, url):
    page = new_page(url, java_script_enabled=False)
    assert page.is_visible("noscript")
    assert page.is_visible("text=0.12 ± 0.34 >> nth=0")
    assert page.get_by_role("img", name="Figure").is_visible()
    assert not page.is_visible("#reader")
