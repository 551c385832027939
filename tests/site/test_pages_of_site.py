"""The copy of the repository's pages that Sphinx reads: links, sections of other pages, and the navigation."""

import re

import pytest

from docs._ext import gallery, pages, reference
from docs._ext.pages import Page, home, section, slug, translated
from docs._ext.sections import SECTIONS, navigation, placed

GUIDE = Page("docs/guides/lightning.md", "guides/lightning")
README = Page("README.md", "index")


@pytest.mark.parametrize(
    ("page", "written", "made"),
    [
        (README, "[a](docs/training.md)", "[a](training.md)"),
        (README, "[a](docs/reference.md#events)", "[a](reference.md#events)"),
        (README, "[a](examples/)", "[a](gallery/index.md)"),
        (README, "[a](examples/quickstart.py)", "[a](gallery/quickstart.md)"),
        (README, "[`a`](unitrain/testing/)", "`a`"),
        (README, "[a](https://example.org/x.md#y)", "[a](https://example.org/x.md#y)"),
        (README, "[a](#limits)", "[a](index.md#limits)"),
        (GUIDE, "[a](../../MIGRATION.md#by-hand)", "[a](../migration.md#by-hand)"),
        (GUIDE, "[a](../training.md)", "[a](../training.md)"),
        (GUIDE, "[a](ignite.md)", "[a](ignite.md)"),
        (GUIDE, "```python\nx[0](docs/training.md)\n```\n", "```python\nx[0](docs/training.md)\n```\n"),
    ],
)
def test_a_link_leads_to_the_page_of_the_site(page, written, made):
    assert translated(written, page, set()) == made


def test_a_picture_is_copied():
    files = set()
    text = translated("![a](../tests/bench/results.svg)", Page("docs/benchmarks.md", "benchmarks"), files)
    assert text == "![a](_files/tests/bench/results.svg)"
    assert files == {"tests/bench/results.svg"}


def test_a_link_that_leads_nowhere_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"README.md: \[a\]\(docs/trainign.md\)"):
        translated("[a](docs/trainign.md)", README, set())


def test_a_section_of_another_page_is_included_with_its_own_links():
    text = translated("<!-- include: ../CONTRIBUTING.md#the-path-of-one-batch -->\n", Page("docs/x.md", "x"), set())
    assert text.startswith("## The path of one batch\n")
    assert "[docs/backends.md](backends.md)" in text
    assert "## Where do I change" not in text


def test_a_section_ends_at_the_next_heading_of_its_level():
    text = "# a\n## b\none\n### c\ntwo\n```\n# a comment\n```\n## d\nthree\n"
    assert section(text, "b") == "## b\none\n### c\ntwo\n```\n# a comment\n```\n"
    with pytest.raises(LookupError, match="#e"):
        section(text, "e")


@pytest.mark.parametrize(
    ("heading", "anchor"), [("Traps, and what unitrain does", "traps-and-what-unitrain-does"), ("`a` of B", "a-of-b")]
)
def test_an_anchor_is_that_of_code_hosts(heading, anchor):
    assert slug(heading) == anchor


def test_pages_without_a_place_in_the_site_have_no_home():
    assert home("unitrain/trainer.py") is None
    assert home("examples/migrate/ignite_spiral/train.py") is None


def test_each_page_is_in_one_section():
    names = [page.name for page in pages.pages() if page.name != pages.FIRST]
    made = [
        *(f"reference/{name}" for name in reference.GROUPS),
        gallery.NAME,
        *map("gallery/{}".format, gallery.names()),
    ]
    shown = [name for section in placed([*names, *made]).values() for name in section]
    assert sorted(shown) == sorted([*names, gallery.NAME])


def test_a_new_page_is_a_how_to():
    assert placed(["training", "zebra"]) == {"How-to": ["training", "zebra"]}
    assert "How-to\n\ntraining\nzebra\n```" in navigation(["training", "zebra"])


def test_each_page_that_a_section_names_is_there_or_is_yet_to_come():
    there = {page.name for page in pages.pages()} | {gallery.NAME}
    named = {name for names in SECTIONS.values() for name in names}
    assert named - there <= {"cli", "compare", "reports", "policy", "security", "code-of-conduct"}


def test_names_in_the_tables_of_the_reference_lead_to_their_entries(tmp_path):
    pages.copy(tmp_path, ["reference/data", "gallery/index"])
    text = (tmp_path / "reference.md").read_text()
    assert "## Every name and command\n\n```{toctree}\n:maxdepth: 1\n\nreference/data\n```\n" in text
    linked = re.findall(r"^\| \{py:obj\}`(?:[^`]*) <unitrain\.(\w+)>` \|", text, re.MULTILINE)
    assert {"EarlyStopping", "CSVLogger", "TrainSpec", "ConfigError"} <= set(linked)
    assert len(linked) == len(set(linked)) > 60
    assert "| `max_epochs` |" in text  # an option is no public name
