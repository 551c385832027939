"""A model that was trained on a device is exported as one that never left the host, and stays on the device."""

from importlib.util import find_spec

import pytest
import torch

import unitrain
from tests.gpu.training import loader, seeded, spec, trainer
from unitrain.export.formats.table import FORMATS, find_format
from unitrain.export.pipeline import export_module
from unitrain.testing.models import tensors

SUFFIXES = {"torchscript": ".ts", "torch_export": ".pt2", "onnx": ".onnx"}
"""By format, of those that run anywhere."""


@pytest.mark.filterwarnings("ignore:TorchScript is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", SUFFIXES)
def test_an_export_from_a_device_computes_what_one_from_the_host_does(kind, framework, device, tmp_path):
    needs = FORMATS[kind].needs
    if not all(map(find_spec, needs)):
        pytest.skip(f"the format {kind} needs {', '.join(needs)}")
    own, example = spec("cnn"), tensors()[0][:4]
    made = trainer(framework, device, max_epochs=1)
    made.fit(own, loader(device))
    host = seeded("cnn")
    host.load_state_dict(own.model.state_dict())
    files = [tmp_path / f"{name}{SUFFIXES[kind]}" for name in ("device", "host")]
    made.export(files[0], example_input=example.to(device))  # an example from the device will do
    export_module(host, files[1], example_input=example)
    outputs = (find_format(kind).load(path)(example) for path in files)
    found, expected = (one[0] if isinstance(one, tuple) else one for one in outputs)
    assert found.device.type == "cpu"
    assert torch.equal(found, expected)
    assert {one.device for one in own.model.state_dict().values()} == {device}


def test_weights_of_a_device_are_written_as_those_of_the_host(framework, device, tmp_path):
    own = spec("tied")
    made = trainer(framework, device, max_epochs=1)
    made.fit(own, loader(device))
    made.save_checkpoint(tmp_path / "run.ckpt")
    if find_spec("safetensors"):
        made.export(tmp_path / "model.safetensors")
    for path in tmp_path.glob("*"):
        weights = unitrain.load_weights(path)
        assert {value.device.type for value in weights.values()} == {"cpu"}
        for name, value in weights.items():
            assert torch.equal(value, own.model.state_dict()[name].cpu()), (path, name)
