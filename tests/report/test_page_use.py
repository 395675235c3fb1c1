"""The results page as people meet it: small screens, keyboards, hostile texts, no JavaScript."""

import re

import pandas as pd
import pytest
from page_browser import SVG, A, B, expected, ids, open_example, prompt, row, set_controls, written

from persodpo.report.page import Block

pytest_plugins = ["page_browser"]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_wrong_address_shows_the_default(new_page, url):
    page = new_page(url + "#examples?a=nobody&measure=x&min=low&page=-3&toString=1&order=highest")
    assert ids(page) == expected(order="highest")[:25]
    page = new_page(url + "#examples?page=999")
    assert ids(page) == expected()[-25:]


@pytest.mark.slow
def test_without_javascript(new_page, url):
    page = new_page(url, java_script_enabled=False)
    assert page.is_visible("noscript")
    assert page.is_visible("text=0.12 ± 0.34 >> nth=0")
    assert page.get_by_role("img", name="Figure").is_visible()
    assert not page.is_visible("#reader")
