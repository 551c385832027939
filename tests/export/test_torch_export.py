"""The format torch_export."""

import torch
from torch import nn

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
