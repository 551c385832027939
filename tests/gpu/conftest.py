"""What the GPU tier shares: the device. Most tests run on the CPU too, in the slow tier, so that their code is tried there."""

import os

import pytest
import torch

from tests.backends import framework

__all__ = ["framework"]

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic, and torch raises

CPU = pytest.param("cpu", marks=pytest.mark.slow)
CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


@pytest.fixture(params=[CPU, CUDA])
def device(request):
    """Run a test on the CPU, and on the first GPU."""
    return torch.device("cpu") if request.param == "cpu" else torch.device("cuda", 0)
