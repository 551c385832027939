"""The format torch_export."""

import os
import pickle
import zipfile
from contextlib import suppress

import pytest
import torch
from torch import nn

from unitrain.export.formats.torch_export import FORMAT
from unitrain.export.pipeline import export_module


def test_a_file_is_compared_at_three_sizes_and_the_module_stays_as_it_is(tmp_path):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    parameters = list(net.parameters())

    report = export_module(net, tmp_path / "net.pt2", example_input=torch.randn(1, 4))

    assert report.sizes == [{"batch": 1}, {"batch": 2}, {"batch": 7}]
    assert all(one.training for one in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(one is other for one, other in zip(parameters, net.parameters(), strict=True))
    found = torch.export.load(tmp_path / "net.pt2").module()(torch.ones(3, 4))
    assert torch.equal(found, net.eval()(torch.ones(3, 4)))


class Makes:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "given", [None, ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "0"), ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")]
)
def test_a_pickle_in_a_file_runs_nothing(given, tmp_path, monkeypatch):
    if given is not None:
        monkeypatch.setenv(*given)
    whole, changed, made = (tmp_path / name for name in ("whole.pt2", "changed.pt2", "made"))
    export_module(nn.Linear(4, 3), whole, example_input=torch.randn(2, 4))
    before = dict(os.environ)
    assert FORMAT.load(whole)(torch.ones(2, 4)).shape == (2, 3)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            hostile = name.endswith("/data/sample_inputs/model.pt")
            target.writestr(name, pickle.dumps(Makes(made), 2) if hostile else source.read(name))
    with pytest.raises(pickle.UnpicklingError):
        FORMAT.load(changed)
    assert not made.exists()
    assert os.environ == before
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    with suppress(Exception):
        torch.export.load(changed)
    assert made.exists(), "the control: torch alone runs it"
