"""Pages for a browser: one HTML file that loads nothing, runs no script, and escapes every text.

`page.py` joins sections, `parts.py` has what is in them, `chart.py` the line charts (`scale.py`: axes and ticks),
`markup.py` the escaping, `style.css` the look. `notebook.py` is for `_repr_html_`: small, with its style inline.
"""

from unitrain.reports.html.chart import Mark, Series, line_chart
from unitrain.reports.html.markup import Markup, element
from unitrain.reports.html.numbers import duration, number, size
from unitrain.reports.html.page import Section, page
from unitrain.reports.html.parts import (
    Card,
    Row,
    bars,
    beside,
    cards,
    code,
    definitions,
    fold,
    image,
    notice,
    paragraph,
    pill,
    table,
)

__all__ = [
    "Card",
    "Mark",
    "Markup",
    "Row",
    "Section",
    "Series",
    "bars",
    "beside",
    "cards",
    "code",
    "definitions",
    "duration",
    "element",
    "fold",
    "image",
    "line_chart",
    "notice",
    "number",
    "page",
    "paragraph",
    "pill",
    "size",
    "table",
]
