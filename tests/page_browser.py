"""The results page on a large made-up sample, in a real browser, with what pandas finds in it."""

import shutil

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import sync_playwright

from persodpo.records import Prompt
from persodpo.report.page import Block, examples_data, render_page
from persodpo.score.metric import Metric

METRICS = {
    "coh": Metric("Coh", low=0, high=1, worst=0, version=1),
    "c": Metric("C", low=-1, high=1, worst=-1, version=1),
    "d": Metric("Distance", low=0, high=1, worst=1, version=1, higher_is_better=False),
}
CANDIDATES = [f"candidate_{letter}" for letter in "hgfedcba"]
A, B, TIMELESS = CANDIDATES[0], CANDIDATES[5], CANDIDATES[3]
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
