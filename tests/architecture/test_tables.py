"""The tables of the pages say what the code says."""

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("tables", Path(__file__).with_name("tables.py"))
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)


@pytest.mark.parametrize("page", tables.PAGES)
def test_page_holds_the_tables_of_the_code(page):
    text = (tables.ROOT / page).read_text()
    assert tables.rendered(text) == text, "run `make docs`"


def test_every_table_is_shown_somewhere():
    shown = {
        found["name"] for page in tables.PAGES for found in tables.BLOCK.finditer((tables.ROOT / page).read_text())
    }
    assert shown == set(tables.TABLES)


def test_a_stale_table_is_noticed():
    stale = "<!-- table: support -->\n| feature | lightning |\n<!-- end -->"
    assert tables.rendered(stale) != stale
