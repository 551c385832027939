"""The page at ``/docs``: each route with a request that can be pasted; complete in itself, without a network."""

from __future__ import annotations

import json
import shlex
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
h2 {{ font-size: 1rem; margin: 2rem 0 .25rem; }}
code, pre {{ font-family: ui-monospace, monospace; font-size: .875rem; }}
pre {{ padding: .75rem; overflow-x: auto; border-radius: 6px; border: 1px solid; }}
</style></head><body><h1>{title}</h1><p>{summary} The machine-readable form is
<a href="/openapi.json">openapi.json</a>; <a href="/">the front page</a> has a form.</p>{routes}</body></html>
"""
_ROUTE: Final = "<h2><code>{method} {path}</code></h2><p>{summary}</p><pre>{command}</pre>"


def docs(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as a page."""
    needs_token = "security" in document
    routes = "".join(
        _ROUTE.format(
            method=escape(method.upper()),
            path=escape(path),
            summary=escape(operation["summary"]),
            command=escape(_command(method, path, operation, needs_token=needs_token and "security" not in operation)),
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    about = document["info"]
    return _PAGE.format(title=escape(about["title"]), summary=escape(about["description"]), routes=routes)


def _command(method: str, path: str, operation: Mapping[str, Any], *, needs_token: bool) -> str:
    parts = ["curl"]
    if needs_token:
        parts.append('-H "Authorization: Bearer $UNITRAIN_TOKEN"')
    if method == "post":
        content = operation["requestBody"]["content"]["application/json"]
        parts += ["-H 'Content-Type: application/json'", "-d", shlex.quote(json.dumps(content.get("example", {})))]
    return " ".join([*parts, f"http://HOST:PORT{path}"])
