"""The gallery: an example is run once, its page shows what it printed, and a failing one ends the build."""

import pytest

from docs._ext import gallery

PROGRAM = '''"""Prints one line.

    python examples/{name}.py
"""

import sys
from pathlib import Path

Path("picture.png").write_bytes(b"a picture")
Path("notes.txt").write_text("not shown")
print("arguments:", *sys.argv[1:], "in", Path.cwd() / "picture.png")
{more}
'''


@pytest.fixture
def examples(tmp_path, monkeypatch):
    """Return a function that writes an example and makes it the only one."""
    folder = tmp_path / "examples"
    folder.mkdir()
    monkeypatch.setattr(gallery, "EXAMPLES", folder)
    monkeypatch.setattr(gallery, "GALLERY", {})

    def write(name, more="", arguments=("--epochs", "2"), left_out=""):
        (folder / f"{name}.py").write_text(PROGRAM.format(name=name, more=more))
        gallery.GALLERY[name] = gallery.Example("The one", arguments, left_out)

    return write


def test_the_page_shows_what_the_example_printed_and_its_picture(examples, tmp_path):
    examples("one")
    assert gallery.copy(tmp_path / "pages", tmp_path / "cache", None) == ["gallery/index", "gallery/one"]
    text = (tmp_path / "pages/gallery/one.md").read_text()
    assert "$ python examples/one.py --epochs 2\narguments: --epochs 2 in picture.png\n```" in text
    assert "![The one](../_files/gallery/one/picture.png)" in text
    assert (tmp_path / "pages/_files/gallery/one/picture.png").read_bytes() == b"a picture"
    assert "Prints one line." in text
    assert "```python\nimport sys\n" in text
    assert str(tmp_path) not in text
    assert "**[The one](one.md)**" in (tmp_path / "pages/gallery/index.md").read_text()


def test_a_second_build_runs_nothing_until_the_example_changes(examples, tmp_path, monkeypatch):
    examples("one")
    first = gallery.output("one", tmp_path / "cache", None)
    monkeypatch.setattr(gallery, "_run", lambda *_: pytest.fail("it ran again"))
    assert gallery.output("one", tmp_path / "cache", None) == first
    examples("one", arguments=())
    with pytest.raises(pytest.fail.Exception, match="it ran again"):
        gallery.output("one", tmp_path / "cache", None)
    examples("one", more="print(2)")
    with pytest.raises(pytest.fail.Exception, match="it ran again"):
        gallery.output("one", tmp_path / "cache", None)


def test_an_example_that_fails_ends_the_build_and_leaves_nothing(examples, tmp_path):
    examples("one", more="raise SystemExit('out of order')")
    with pytest.raises(RuntimeError, match=r"examples/one\.py ended with status 1:\nout of order"):
        gallery.copy(tmp_path / "pages", tmp_path / "cache", None)
    assert gallery.output("one", tmp_path / "cache", set()) is None


def test_what_is_not_wanted_is_not_run_but_has_a_page(examples, tmp_path):
    examples("one")
    gallery.copy(tmp_path / "pages", tmp_path / "cache", set())
    assert "It was not run for this page." in (tmp_path / "pages/gallery/one.md").read_text()
    assert not (tmp_path / "cache").exists()


def test_what_is_left_out_says_why(examples, tmp_path):
    examples("one", left_out="It needs a cluster.")
    gallery.copy(tmp_path / "pages", tmp_path / "cache", None)
    rows = (tmp_path / "pages/gallery/index.md").read_text()
    assert "| [The one](one.md) | Prints one line. | It needs a cluster. |" in rows
    text = (tmp_path / "pages/gallery/one.md").read_text()
    assert "It was not run for this page. It needs a cluster.\n" in text


def test_a_new_example_must_be_in_the_gallery(examples):
    examples("one")
    gallery.GALLERY.clear()
    with pytest.raises(LookupError, match="one"):
        gallery.names()


def test_each_example_of_the_repository_is_in_the_gallery():
    assert gallery.names()
