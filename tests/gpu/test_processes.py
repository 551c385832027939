"""Several processes on GPUs: DDP, SyncBatchNorm and FSDP are what they are by hand, over nccl where there are two devices."""

import json
from pathlib import Path

import pytest
import torch

from tests.distributed.launching import on_one_host

SCRIPT = Path(__file__).with_name("processes.py")
SHARED = pytest.param("shared", marks=pytest.mark.gpu, id="one GPU, gloo")
TWO = pytest.param("cuda", marks=pytest.mark.gpu, id="two GPUs, nccl")
HOST = pytest.param("cpu", marks=pytest.mark.slow, id="cpu")


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    """Let the script import from the tests."""
    root = request.config.rootpath
    monkeypatch.setenv("PYTHONPATH", f"{root}:{root / 'adapters'}")


def found(folder, what, kind, count=2):
    """Run the script on ``count`` processes, and return what each found."""
    if kind == "cuda" and torch.cuda.device_count() < count:
        pytest.skip(f"nccl takes a GPU for each process: {count}, and there are {torch.cuda.device_count()}")
    on_one_host(folder, what, kind, count=count, script=SCRIPT)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]


def assert_nothing_differs(results, backend=None):
    for one in results:
        assert one["differ"]
        assert not {name: differs for name, differs in one["differ"].items() if differs}
        assert backend is None or backend in one["backend"]


@pytest.mark.parametrize("kind", [HOST, SHARED, TWO])
def test_ddp_is_the_loop_by_hand(kind, tmp_path):
    assert_nothing_differs(found(tmp_path, "ddp", kind), {"cuda": "cuda:nccl"}.get(kind))


@pytest.mark.parametrize("kind", [SHARED, TWO])  # torch has none for the CPU, and unitrain refuses it there
def test_synchronized_batch_norm_is_that_of_the_loop_by_hand(kind, tmp_path):
    assert_nothing_differs(found(tmp_path, "sync_batchnorm", kind), {"cuda": "cuda:nccl"}.get(kind))


@pytest.mark.parametrize("kind", [HOST, TWO])
def test_fsdp_has_the_bits_of_ddp(kind, tmp_path):
    assert_nothing_differs(found(tmp_path, "fsdp", kind), {"cuda": "cuda:nccl"}.get(kind))


@pytest.mark.parametrize("kind", [HOST, pytest.param("cuda", marks=pytest.mark.gpu, id="one GPU, nccl")])
def test_in_a_group_of_one_the_wrappers_are_a_plain_step(kind, tmp_path):
    assert_nothing_differs(found(tmp_path, "alone", kind, count=1), {"cuda": "cuda:nccl"}.get(kind))
