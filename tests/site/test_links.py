"""The check of the built pages: what it must notice."""

import pytest

from docs._ext.links import faults

PAGE = "<html><head>{head}</head><body><h1 id='top'>Top</h1>{body}</body></html>"


@pytest.mark.parametrize(
    ("head", "body", "fault"),
    [
        ("", "<a href='b.html#there'>b</a><a href='#top'>top</a><a href='https://example.org/'>out</a>", None),
        ("<link rel='canonical' href='https://example.org/'><script src='own.js?v=1'></script>", "", None),
        ("", "<img src='data:image/png;base64,AA=='>", None),
        ("", "<a href='c.html'>c</a>", "a.html: c.html leads nowhere"),
        ("", "<a href='b.html#here'>b</a>", "a.html: b.html#here leads nowhere"),
        ("", "<a href='#bottom'>bottom</a>", "a.html: #bottom leads nowhere"),
        ("", "<a href='folder'>a folder</a>", "a.html: folder leads nowhere"),
        ("", "<img src='gone.png'>", "a.html: gone.png leads nowhere"),
        ("<script src='https://example.org/x.js'></script>", "", "a.html: loads https://example.org/x.js"),
        ("<link rel='stylesheet' href='//example.org/x.css'>", "", "a.html: loads //example.org/x.css"),
    ],
)
def test_each_kind_of_broken_link_is_found(head, body, fault, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "own.js").write_text("")
    (tmp_path / "a.html").write_text(PAGE.format(head=head, body=body))
    (tmp_path / "b.html").write_text(PAGE.format(head="", body="<p id='there'></p>"))
    assert faults(tmp_path) == ([] if fault is None else [fault])
