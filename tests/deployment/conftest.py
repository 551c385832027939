"""One small model as ONNX, and a bundle of it, which most tests share."""

import pytest

import unitrain
from tests.onnx_models import write_small_model


@pytest.fixture(scope="session")
def onnx(tmp_path_factory):
    """Return the path of a model with four inputs and three outputs."""
    return write_small_model(tmp_path_factory.mktemp("deployment") / "digits.onnx")


@pytest.fixture(scope="session")
def shared(onnx, tmp_path_factory):
    """Return a bundle for SageMaker with its archive; tests that change it copy it first."""
    return unitrain.bundle(onnx, tmp_path_factory.mktemp("bundle") / "out", target="sagemaker", archive=True)
