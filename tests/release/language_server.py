"""A client of basedpyright's language server, as an editor is one."""

import json
import subprocess
import sys
from pathlib import Path


class LanguageServer:
    """The server for a folder, by JSON-RPC over its standard streams."""

    def __init__(self, folder):
        self._folder, self._number = Path(folder), 0
        program = Path(sys.executable).parent / "basedpyright-langserver"
        self._process = subprocess.Popen(
            [program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def __enter__(self):
        root = self._folder.as_uri()
        self.ask(
            "initialize", processId=None, rootUri=root, capabilities={}, workspaceFolders=[{"uri": root, "name": "x"}]
        )
        self._send(method="initialized", params={})
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def completions(self, text):
        """Return the labels that are offered at the end of a file with ``text``."""
        self._number += 1
        uri = (self._folder / f"edited_{self._number}.py").as_uri()
        document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self._send(method="textDocument/didOpen", params={"textDocument": document})
        *before, last = text.split("\n")
        place = {"line": len(before), "character": len(last)}
        found = self.ask("textDocument/completion", textDocument={"uri": uri}, position=place)
        return {one["label"] for one in found["items"]}

    def ask(self, method, **params):
        self._number += 1
        asked = self._number
        self._send(id=asked, method=method, params=params)
        while True:
            told = self._read()
            if "method" in told and "id" in told:  # the server asks for the settings of the editor
                items = told.get("params", {}).get("items", [])
                self._send(id=told["id"], result=[None] * len(items))
            elif told.get("id") == asked:
                assert "error" not in told, told
                return told["result"]

    def _send(self, **message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _read(self):
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        assert length, "the language server has ended"
        return json.loads(self._process.stdout.read(length))
