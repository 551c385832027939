"""Pages in a real browser: they load nothing, run nothing, fit every width, follow light and dark, and can be printed."""

from __future__ import annotations

import math

import pytest

from tests.reports.pages import EVIL, fitted
from unitrain.reports import html
from unitrain.reports.run.folder import Found
from unitrain.reports.run.page import run_page
from unitrain.reports.run.record import RunRecord

LONG = "a/very/long/name/" * 12


@pytest.fixture
def opened(browser, tmp_path):
    """Return what opens a page from the disk; it fails if the browser asks for anything but that file."""

    def opener(content, **options):
        path = tmp_path / "page.html"
        path.write_text(content, "utf-8")
        return browser.tab(path.as_uri(), **options)

    return opener


def quiet(tab):
    """Check that the browser asked for the page alone, ran nothing and complained about nothing."""
    asked = [one["request"]["url"] for one in tab.seen("Network.requestWillBeSent")]
    assert len(asked) == 1, asked
    assert tab.value("typeof window.hit") == "undefined"
    assert tab.value("document.scripts.length") == 0
    return tab.seen("Log.entryAdded")


def sample(text="loss"):
    """Return a page with each part, of a text that is a name everywhere."""
    values = [1.0, 0.5, math.nan, 0.25, math.inf, 0.2]
    chart = html.line_chart(
        [html.Series(text, range(6), values), html.Series("b", range(6), values[::-1])], title=text, x=text
    )
    record = RunRecord(
        status="failed",
        framework=text,
        config=text,
        metrics={text: 1.0},
        history=[{"epoch": epoch, text: 1.0 / (epoch + 1)} for epoch in range(5)],
        error={"type": text, "message": text, "traceback": text},
        versions={text: text},
        warnings=[{"category": text, "message": text, "count": 1}],
    )
    page = run_page(Found(text, text, record))
    more = html.page(
        text, [html.Section(text, [chart, html.bars({text: 1.0, "b": 0.5}), html.cards([html.Card(text, text)])])]
    )
    return page.replace("</main>", more[more.index("<main>") + 6 : more.index("</main>")] + "</main>")


@pytest.mark.parametrize("text", [EVIL, "loss"], ids=["hostile", "plain"])
def test_a_page_loads_and_runs_nothing(text, opened):
    with opened(sample(text)) as tab:
        assert quiet(tab) == []
        assert tab.value("document.images.length") == 0
        assert tab.value("document.querySelectorAll('svg.plot').length") >= 2


def test_a_script_that_got_onto_a_page_would_not_run(opened):
    """The page's policy, in case that an escape is missing some day; and the negative control of `quiet`."""
    script = "<script>window.hit = 1</script><img src='https://127.0.0.1:9/x.png'><link rel=stylesheet href='https://127.0.0.1:9/y.css'>"
    with opened(sample().replace("</main>", f"{script}</main>")) as tab:
        assert tab.value("typeof window.hit") == "undefined"
        refused = [one["entry"]["text"] for one in tab.seen("Log.entryAdded")]
        assert sum("Content Security Policy" in one for one in refused) == 3
        with pytest.raises(AssertionError):
            quiet(tab)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_a_page_fits_its_window(width, opened):
    with opened(sample(LONG), width=width) as tab:
        assert tab.value("document.documentElement.scrollWidth") == width
        beyond = (
            "[...document.querySelectorAll('text.tick')].filter(one => one.getBoundingClientRect().left < 0).length"
        )
        assert tab.value(beyond) == 0


def test_the_texts_of_a_chart_keep_their_size(opened):
    sizes = []
    for width in (390, 1280):
        with opened(sample(), width=width) as tab:
            sizes.append(tab.value("document.querySelector('text.tick').getBoundingClientRect().height"))
    assert sizes[0] == sizes[1] > 10


BRIGHTNESS = (
    "(() => { const [r, g, b] = getComputedStyle(%s).%s.match(/\\d+/g).map(Number); return (r + g + b) / 765; })()"
)


def brightness(tab, selector, what):
    return tab.value(BRIGHTNESS % (f"document.querySelector('{selector}')", what))


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_a_page_follows_light_and_dark(scheme, is_dark, opened):
    with opened(sample(), scheme=scheme) as tab:
        for back in ("body", ".card", "pre"):
            assert (brightness(tab, back, "backgroundColor") < 0.3) is is_dark
        for text in ("h1", "td", "dd", "pre", ".plot text"):
            what = "fill" if text == ".plot text" else "color"
            assert (brightness(tab, text, what) > 0.5) is is_dark
        assert (brightness(tab, ".h0 .line", "stroke") > 0.5) is is_dark


def test_a_page_is_printed_dark_on_white_and_with_all_that_is_folded(opened):
    with opened(sample(), scheme="dark") as tab:
        tab.call(
            "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
        )
        assert brightness(tab, "body", "backgroundColor") == 1
        assert brightness(tab, "h1", "color") < 0.2
        folded = "[...document.querySelectorAll('details:not([open]) > :not(summary)')].map(one => one.offsetHeight)"
        heights = tab.value(folded)
        assert heights
        assert all(one > 10 for one in heights)
        assert tab.call("Page.printToPDF")["data"].startswith("JVBERi")


def test_what_is_folded_is_hidden_on_the_screen(opened):
    """The negative control of the test above."""
    with opened(sample()) as tab:
        visible = (
            "[...document.querySelectorAll('details:not([open]) > :not(summary)')].some(one => one.checkVisibility())"
        )
        assert tab.value(visible) is False


def test_a_dot_tells_its_value(opened):
    with opened(sample()) as tab:
        assert "loss: 0.25 at 3" in tab.value(
            "[...document.querySelectorAll('path.dot title')].map(one => one.textContent)"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_snippet_takes_the_colours_of_the_notebook(scheme, opened):
    back, text = {"light": ("#fff", "#111"), "dark": ("#111", "#eee")}[scheme]
    body = f"<!doctype html><meta charset=utf-8><body style='background:{back};color:{text}'>{fitted()._repr_html_()}"
    with opened(body) as tab:
        assert quiet(tab) == []
        assert (brightness(tab, "td", "color") > 0.5) is (scheme == "dark")
        assert (brightness(tab, "svg path", "stroke") > 0.5) is (scheme == "dark")
