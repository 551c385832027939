"""Starts entry points of bundles as platforms do, and changes bundles so that nobody notices by the checksums."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time

from tests.serving.clients import Client
from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.deployment.bundle.manifest import text_of

PLAIN = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
"""What a container has of the environment here: no PYTHONPATH, and no secret."""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def process_of(folder, *arguments, python=sys.executable, **environment):
    """Start the entry point in a folder, yield its process, and end it for sure."""
    command = [python, str(folder / "serve"), *arguments, "--host", "127.0.0.1"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=PLAIN | environment, cwd="/", **streams) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def running(folder, *arguments, port_variable="PORT", **environment):
    """Start it, wait until it answers, and yield a client and the process."""
    port = free_port()
    with process_of(folder, *arguments, **{port_variable: str(port)}, **environment) as process:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 60
        while True:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end
            with contextlib.suppress(OSError), Client(url) as client:
                if client.get("/ping").status == 200:
                    break
            time.sleep(0.05)
        with Client(url) as client:
            yield client, process


def refused(folder, *arguments, **environment):
    """Return what an entry point says that does not start."""
    with process_of(folder, *arguments, **environment) as process:
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 1, said
        return said


def copied(bundle, folder):
    """Return a copy of a bundle, without its archive."""
    shutil.copytree(bundle.path, folder, ignore=shutil.ignore_patterns("model.tar.gz"))
    return folder


def forged(bundle, folder, edits, **manifest):
    """Return a copy of a bundle with edited files, whose manifest says so: only driving it shows the difference.

    Args:
        bundle: The original.
        folder: Of the copy.
        edits: The text to replace and its replacement, by file.
        manifest: What else the manifest says.
    """
    copied(bundle, folder)
    told = json.loads((folder / "manifest.json").read_text()) | manifest
    for name, (old, new) in edits.items():
        text = (folder / name).read_text()
        assert old in text, (name, old)
        (folder / name).write_text(text.replace(old, new))
        content = (folder / name).read_bytes()
        told["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / "manifest.json").write_bytes(text_of(told))
    return read_bundle(folder)
