"""A container that is stopped while its model is being loaded ends at once."""

import hashlib
import json
import signal
import time

import psutil

from tests.deployment.driving import copied, free_port, process_of
from tests.onnx_models import write_slowly_loaded_model
from tests.serving.test_loading import QUICKLY, health, until
from unitrain.deployment.bundle.manifest import text_of


def test_an_entry_point_that_loads_ends_at_once(shared, tmp_path):
    folder, port = copied(shared, tmp_path / "bundle"), free_port()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    name = manifest["model"]["file"]
    content = write_slowly_loaded_model(folder / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"sha256": digest, "size": len(content)}
    manifest["model"]["sha256"] = digest
    (folder / "manifest.json").write_bytes(text_of(manifest))
    with process_of(folder, PORT=str(port)) as process:
        until(lambda: health(port) == "loading", process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert time.monotonic() - began < QUICKLY
    assert not psutil.pid_exists(process.pid)
