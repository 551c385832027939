"""A service of a Lightning run and one of an Ignite run of the same spec answer the same bytes."""

from functools import partial

import pytest
import torch
from torch import nn

import unitrain
from tests.serving.clients import Client
from unitrain import TrainSpec, UnifiedTrainer


def trained(backend, folder):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    spec = TrainSpec(
        model=net,
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.Adam, lr=0.01),
        example_input=torch.ones(2, 4),
    )
    generator = torch.Generator().manual_seed(1)
    data = [(torch.randn(8, 4, generator=generator), torch.randint(3, (8,), generator=generator)) for _ in range(4)]
    trainer = UnifiedTrainer(backend, max_epochs=2, seed=3, enable_progress_bar=False, default_root_dir=folder)
    trainer.fit(spec, data)
    return trainer


def test_the_answers_are_the_same_bytes(tmp_path):
    found = {}
    for backend in ("lightning", "ignite", "reference"):
        with trained(backend, tmp_path).serve(port=0) as server, Client(server.url) as client:
            rows = client.predict([[0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4]])
            assert rows.status == 200
            identity = client.get("/models").json["models"][0]["sha256"]
            found[backend] = (rows.body, identity)
            assert server.is_running
        assert not server.is_running
    assert len(set(found.values())) == 1


@pytest.mark.filterwarnings("ignore:TorchScript is deprecated")
@pytest.mark.parametrize("format_", ["torch_export", pytest.param("torchscript", marks=pytest.mark.slow)])
def test_other_formats_are_served(tmp_path, format_):
    trainer = trained("reference", tmp_path)
    with trainer.serve(port=0, format=format_) as server, Client(server.url) as client:
        x = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
        found = torch.tensor(client.predict(x.tolist()).json["prediction"])
        assert torch.allclose(found, trainer.predict(dataloaders=[x])[0], atol=1e-5)  # exports are allowed as much


def test_what_cannot_be_served_is_refused_before_the_export(tmp_path):
    trainer = trained("reference", tmp_path)
    with pytest.raises(unitrain.ConfigError, match="'safetensors' cannot be served"):
        trainer.serve(format="safetensors")
    with pytest.raises(unitrain.ConfigError, match="unknown argument 'prot'"):
        trainer.serve(prot=1)
