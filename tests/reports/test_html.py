"""The parts of a page: escaping, numbers, axes, charts, tables."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.pages import EVIL, does, seen
from unitrain.reports import html
from unitrain.reports.html import chart as chart_module
from unitrain.reports.html import markup
from unitrain.reports.html.notebook import sparkline, summary
from unitrain.reports.html.scale import linear, logarithmic

VOID = {"img", "meta"}


class Checked(HTMLParser):
    """Fails on tags that are not closed in order; keeps the texts and the tags."""

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.tags = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def everything(text):
    """Return a page with a text in each place that takes one."""
    series = [html.Series(text, [0, 1, 2], [1.0, math.nan, 2.0])]
    charts = [html.line_chart(series, title=text, x=text, y=text, marks=[html.Mark(1, text)])]
    content = [
        html.cards([html.Card(text, text, note=text)]),
        html.notice(text),
        html.paragraph(text),
        html.pill(text),
        html.definitions({text: text}),
        html.table([text, "n"], [[text, 1], html.Row([text, 2], "best")], caption=text),
        html.fold(text, html.code(text)),
        html.bars({text: 1.0}),
        html.beside(*charts),
        text,
    ]
    return html.page(text, [html.Section(text, content, text)], subtitle=text, status=html.pill(text), footer=text)


def test_a_text_is_shown_as_it_is_wherever_it_stands():
    page = everything(EVIL)
    assert does(page) == []
    assert Checked(page).of("script") == []
    assert "window.hit = 1</script>" not in page
    assert page.count("&lt;script&gt;window.hit = 1&lt;/script&gt;") > 15
    assert "\\u202e\\x1b[31m" in page  # what would hide or reorder the text beside it is visible


@given(st.text())
def test_any_text_can_be_shown(text):
    page = everything(text)
    assert does(page) == []
    page.encode()  # no lone surrogate
    Checked(page)


def test_a_path_that_is_no_unicode_can_be_shown():
    assert markup.escaped(b"runs/\xff".decode("utf-8", "surrogateescape")) == "runs/\\udcff"


def test_what_is_not_escaped_would_be_seen(monkeypatch):
    """The negative control of the tests above."""
    monkeypatch.setattr(markup, "escape", str)
    assert does(everything(EVIL))


def test_a_page_says_that_nothing_may_be_loaded_or_run():
    policies = [one["content"] for one in Checked(everything("x")).of("meta") if "http-equiv" in one]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "script-src" not in policies[0]


def test_a_picture_must_be_part_of_the_page():
    assert does(html.image("data:image/png;base64,AA==", "a picture")) == []
    with pytest.raises(ValueError, match="part of the page"):
        html.image("https://example.org/x.png", "a picture")


NUMBERS = {
    "1.23457": 1.23456789,
    "1e-07": 1e-7,
    "12345678": 12345678,
    "nan": math.nan,
    "-inf": -math.inf,
    "True": True,
    "about 10^400": 10**400,
    "None": None,
}


@pytest.mark.parametrize(("text", "value"), NUMBERS.items(), ids=NUMBERS)
def test_numbers_are_short(text, value):
    assert html.number(value) == text


DURATIONS = {
    "12 µs": 12e-6,
    "3.21 ms": 0.00321,
    "12.4 s": 12.41,
    "1 min 0 s": 59.9999,
    "5 min 3 s": 303.2,
    "2 h 10 min": 7800,
    "1 d 2 h": 93600,
    "unknown": math.nan,
}


@pytest.mark.parametrize(("text", "seconds"), DURATIONS.items(), ids=DURATIONS)
def test_times_have_the_unit_that_a_person_would_use(text, seconds):
    assert html.duration(seconds) == text


def test_sizes_have_binary_units():
    assert [html.size(one) for one in (0, 1023, 1536, 5 << 20, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5 MiB",
        "3 TiB",
    ]


AXES = {
    "from zero": (linear([0, 10], 5, tight=True), ["0", "2", "4", "6", "8", "10"]),
    "fractions": (linear([0.1, 0.3], 5, tight=True), ["0.1", "0.15", "0.2", "0.25", "0.3"]),
    "whole": (linear([0, 3], 6, whole=True, tight=True), ["0", "1", "2", "3"]),
    "one value": (linear([2.0], 5), ["1.8", "1.9", "2", "2.1", "2.2"]),
    "nothing": (linear([], 5), ["0", "0.5", "1"]),
    "thousands": (linear([0, 20000], 5, tight=True), ["0", "5000", "10k", "15k", "20k"]),
    "close together": (linear([1e6, 1e6 + 0.4], 2, tight=True), ["1000000", "1000000.2", "1000000.4"]),
    "decades": (logarithmic([1e-6, 1.0], 5), ["1e-06", "0.0001", "0.01", "1"]),
    "one decade": (logarithmic([1.0, 10.0], 5), ["1", "2", "5", "10"]),
    "within a decade": (logarithmic([2.6, 3.9], 5), ["2.5", "3", "3.5", "4"]),
}


@pytest.mark.parametrize(("axis", "labels"), AXES.values(), ids=AXES)
def test_ticks_are_round(axis, labels):
    assert axis.labels() == labels
    assert all(-1e-9 <= axis.place(one) <= 1 + 1e-9 for one in axis.ticks)


@given(st.lists(st.floats() | st.integers() | st.none(), max_size=20), st.booleans())
def test_any_values_can_be_drawn(values, log):
    drawn = Checked(html.line_chart([html.Series("s", range(len(values)), values)], log=log))
    places = [float(one) for attrs in drawn.of("path") for one in re.findall(r"-?\d+(?:\.\d+)?", attrs["d"])]
    assert all(-1 <= one <= 1001 for one in places)
    assert not re.search(r"\bnan\b|\binf\b", " ".join(attrs["d"] for attrs in drawn.of("path")))


def lines(drawn):
    """Return the parts of each line, between gaps."""
    found = [
        attrs["d"] for attrs in Checked(drawn).of("path") if attrs.get("class") == "line" and attrs["d"] != "M1 5h22"
    ]
    return [[part.count("L") + 1 for part in one.split("M")[1:]] for one in found]


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf, 1e305], ids=str)
def test_what_is_no_number_is_a_gap_with_a_sign(hole):
    drawn = html.line_chart([html.Series("loss", range(7), [3, 2, 1, hole, 3, 4, hole])])
    assert lines(drawn) == [[3, 2]]
    assert drawn.count("<title>loss: ") == 5 + 2  # a dot for each number, a sign for each other
    assert re.search(r"<small>2 (NaN|-?inf)</small>", drawn)


def test_what_is_not_positive_is_a_gap_on_a_logarithmic_axis():
    values = [1.0, 0.1, 0.0, 0.01, -1.0]
    assert "2 not positive" in html.line_chart([html.Series("s", range(5), values)], log=True)
    assert "not positive" not in html.line_chart([html.Series("s", range(5), values)])


def test_values_beyond_an_axis_that_is_cut_have_a_sign():
    drawn = html.line_chart([html.Series("s", range(5), [1.0, 99.0, 2.0, 3.0, -99.0])], within=(1.0, 3.0))
    assert "1 above, 1 below" in drawn
    assert lines(drawn) == [[2]]


def test_a_missing_value_is_no_gap():
    assert lines(html.line_chart([html.Series("s", [0, 1, 2, 3], [1.0, None, 2.0, 3.0])])) == [[3]]


def test_a_long_line_keeps_its_extremes_and_its_gap():
    values = [float(index % 7) for index in range(100_000)]
    values[50_000], values[70_001] = 1000.0, math.nan
    drawn = html.line_chart([html.Series("s", range(100_000), values)])
    assert len(drawn) < 60_000
    assert "1 NaN" in drawn
    assert len(lines(drawn)[0]) == 2
    tops = [float(one) for one in re.findall(r"[ML]\d+\.\d (\d+\.\d)", drawn)]
    assert min(tops) < 50  # the peak, at the upper end


def test_lines_differ_by_colour_and_by_dashes():
    drawn = html.line_chart([html.Series(name, [0, 1], [0, 1]) for name in "abc"])
    assert [attrs["class"] for attrs in Checked(drawn).of("g")] == ["h0 d0", "h1 d1", "h2 d2"]
    assert seen(drawn).split()[:3] == ["a", "b", "c"]


def test_a_chart_names_itself_to_those_who_do_not_see_it():
    drawn = html.line_chart([html.Series("train/loss", [0, 1], [0, 1])], title="loss")
    assert [one["aria-label"] for one in Checked(drawn).of("svg") if "role" in one] == ["loss: train/loss"]
    assert "no values" in html.line_chart([html.Series("s", [], [])])


def test_numbers_of_a_table_are_on_the_right():
    drawn = Checked(html.table(["name", "value", "time"], [["a", 1.5, "3 s"], ["b", None, None]], right=["time"]))
    assert [one.get("class", "") for one in drawn.of("td")] == ["", "number", "number"] * 2


def test_sections_are_linked_if_there_are_many():
    few, many = (html.page("x", [html.Section(str(one), [])] * count) for one, count in ((1, 3), (1, 4)))
    assert Checked(few).of("a") == []
    assert [one["href"] for one in Checked(many).of("a")] == ["#s1", "#s2", "#s3", "#s4"]


def test_a_snippet_for_notebooks_is_small_and_takes_the_notebooks_colours():
    rows = [(EVIL, 1.5, sparkline([3, 2, math.nan, 1]))] * 45
    text = summary(EVIL, ["name", "value", ""], rows, EVIL, "")
    drawn = Checked(text)
    assert does(re.sub(r' style="[^"]*"', "", text)) == []
    assert not any({"id", "class"} & attrs.keys() for _, attrs in drawn.tags)
    assert not re.search(r"background|#[0-9a-f]{3}|[^-]color:", text)
    assert len(drawn.of("tr")) == 1 + 40
    assert "and 5 more" in text


def test_a_tiny_line_needs_two_numbers():
    assert sparkline([1.0]) is None
    assert sparkline([math.nan, math.inf, 1.0]) is None
    assert sparkline([-1e308, 1e308]) is None
    assert sparkline([1.0, math.nan, 1.0]).count("M") == 2
    assert len(sparkline([float(one) for one in range(10_000)])) < 2500


def test_each_kind_and_each_dash_has_a_look():
    style = html.page("x", []).split("<style>")[1]
    for name in (*(f".h{index}" for index in range(chart_module._HUES)), *(f".d{index}" for index in (1, 2, 3))):
        assert name in style
