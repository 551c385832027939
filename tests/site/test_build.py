"""The built site: no warning, no broken link, an entry for each public name; and what would fail a build."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

import unitrain
from docs._ext import gallery, links
from docs._ext.pages import pages
from unitrain.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow  # Sphinx takes most of a minute; `.ci/run` builds the site as a step of its own


def build(folder, *arguments):
    command = [sys.executable, "-m", "docs._ext", "--gallery", "none", "--output", str(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return the folder of the built pages; no example is run."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(folder / "html" / "index.html")
    return folder / "html"


def test_each_page_is_built(site):
    made = {str(path.relative_to(site).with_suffix("")) for path in site.rglob("*.html")}
    assert {page.name for page in pages()} <= made
    assert {f"gallery/{name}" for name in gallery.names()} <= made


def test_each_link_leads_somewhere_and_nothing_is_loaded_from_elsewhere(site):
    assert not links.faults(site)
    assert sum(len(links.read(page).links) for page in site.rglob("*.html")) > 2_000


def test_each_public_name_has_an_entry_with_text(site):
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    there = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    assert {f"unitrain.{name}" for name in unitrain.__all__} <= there
    assert {"unitrain.UnifiedTrainer.fit", "unitrain.FitResult.plot", "unitrain.Event.EPOCH_END"} <= there


def test_an_entry_has_arguments_results_and_errors(site):
    text = (site / "reference" / "checkpoints.html").read_text()
    entry = text[text.index('id="unitrain.convert_checkpoint"') :]
    for field in ("Parameters", "Returns", "Raises"):
        assert re.search(rf"<dt[^>]*>{field}", entry), field


def test_each_command_is_shown_with_its_help(site):
    text = (site / "reference" / "commands.html").read_text()
    assert all(f"usage: unitrain {name}" in text for name in COMMANDS)


def test_no_page_has_markdown_or_directives_left(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert "{toctree}" not in text, page
        assert "&lt;!-- include" not in text, page
        assert "system-message" not in text, page


def test_a_warning_fails_the_build(site):
    source = site.parent / "pages"
    page = source / "training.md"
    before = page.read_text()
    try:
        page.write_text(before + "\n[nowhere](nowhere.md)\n")
        command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "-c", "docs"]
        command += ["-d", str(site.parent / "doctrees"), str(source), str(site.parent / "again")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    finally:
        page.write_text(before)
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
