"""A full disk ends an export by an error of unitrain, not the process, and what was there before stays."""

from __future__ import annotations

import json
import subprocess
import sys

FORMATS = {"safetensors": ".safetensors", "torch_export": ".pt2", "torchscript": ".pt", "onnx": ".onnx"}

CODE = """
import json, os, resource, sys
from pathlib import Path
import torch
from torch import nn
from unitrain import ExportError, export_module

folder, found = Path(sys.argv[1]), {}
net, example = nn.Sequential(nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 4)), torch.randn(3, 200)
for format, suffix in json.loads(sys.argv[2]).items():
    path = folder / f"model{suffix}"
    path.write_text("old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))  # a write beyond it fails
    try:
        export_module(net, path, format=format, **({} if format == "safetensors" else {"example_input": example}))
    except ExportError as error:
        found[format] = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([found, {one.name: one.read_text() for one in folder.iterdir()}]))
"""


def test_a_full_disk_is_an_error_of_the_export(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(tmp_path), json.dumps(FORMATS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found, left = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == FORMATS.keys()
    assert all("could not be written" in said and "unchanged" in said for said in found.values())
    assert left == {f"model{suffix}": "old" for suffix in FORMATS.values()}
