"""Without a GPU: on a device that is pretended, nothing mixes the host's tensors with the device's, and bits are the host's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("on_pretended.py")
ROOT = Path(__file__).parents[2]
WHAT = ("resume", "prefetched,prefetched batches,stages,ignite metrics,data,steps,options,loaders,callbacks,views")
"""In one process what a process can do in time. The other tables of the conformance suite add nothing that a device changes."""

pytestmark = pytest.mark.slow


def run(what, backend, file, fault=""):
    """Run the script, which cannot share a process: torch knows the devices there are from its first backward pass on."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
    command = [sys.executable, SCRIPT, what, backend, file, fault]
    done = subprocess.run(
        command,
        check=False,
        cwd=file.parent,
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(file.read_text())


@pytest.mark.parametrize("what", WHAT)
def test_it_trains_as_the_host_does(what, framework, tmp_path):
    found = run(what, framework, tmp_path / "found.json")
    assert not found["wrong"]
    assert found["equal"] >= 26


@pytest.mark.parametrize(
    ("what", "backend", "fault"),
    [
        ("steps", "ignite", "a batch stays on the host"),
        ("steps", "lightning", "a batch stays on the host"),
        ("resume", "ignite", "a metric's state stays on the host"),
        ("steps", "reference", "a metric stays on the host"),
        ("prefetched", "ignite", "a prefetched batch stays on the host"),
        ("prefetched", "lightning", "a batch is not waited for"),
        ("prefetched batches", "ignite", "what is still computed is not waited for"),
        ("prefetched", "reference", "the stream that computes is not recorded"),
        ("ignite metrics", "ignite", "an Ignite metric's state stays on the host"),
    ],
)
def test_what_stays_on_the_host_is_noticed(what, backend, fault, tmp_path):
    assert run(what, backend, tmp_path / "found.json", fault)["wrong"]
