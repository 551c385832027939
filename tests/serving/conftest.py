"""One small model as ONNX, which most tests of serving share, and services for it."""

import pytest
import torch
from torch import nn

import unitrain
from tests.onnx_models import write_small_model
from tests.serving.clients import Client


@pytest.fixture(scope="session")
def onnx(tmp_path_factory):
    """Return the path of a model with four inputs and three outputs."""
    return write_small_model(tmp_path_factory.mktemp("serving") / "small.onnx")


class Slow(nn.Module):
    """Takes long enough for a thread, on any machine: 20 matrix products of 600 x 600 for each row."""

    def __init__(self):
        super().__init__()
        self.register_buffer("matrix", torch.eye(600))

    def forward(self, x):
        wide = torch.nn.functional.pad(x, (0, 596)).unsqueeze(-1) * self.matrix
        for _ in range(20):
            wide = wide @ self.matrix
        return wide.sum(-1)[:, :4]


@pytest.fixture(scope="session")
def slow_onnx(tmp_path_factory):
    """Return the path of a model that runs in a thread and takes some 50 ms per row."""
    path = tmp_path_factory.mktemp("serving") / "slow.onnx"
    unitrain.export_module(Slow(), path, example_input=torch.randn(2, 4))
    return path


@pytest.fixture(scope="module")
def client(onnx):
    """Return a client of a service that a module's tests share."""
    with unitrain.serve({"small": onnx}, port=0, block=False) as server, Client(server.url) as made:
        yield made


@pytest.fixture
def serving():
    """Return what starts a service with options, which ends with the test."""
    started = []

    def start(models, **options):
        started.append(unitrain.serve(models, port=0, block=False, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()
