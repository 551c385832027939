"""PyTorch Geometric: batches of graphs, weighted by the number of graphs."""

from functools import partial

import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.data.lightning import LightningDataset
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv, global_mean_pool

from tests.downstream.same import check_same
from unitrain import TrainSpec, metric


class GCN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = GCNConv(3, 8), torch.nn.Linear(8, 2)

    def forward(self, batch):
        hidden = self.first(batch.x, batch.edge_index).relu()
        return self.last(torch.dropout(global_mean_pool(hidden, batch.batch), 0.2, self.training))


def graphs(count):
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    return [Data(x=torch.rand(4, 3), edge_index=edges, y=torch.tensor([index % 2])) for index in range(count)]


def step(model, batch):
    output = model(batch)
    return {"loss": torch.nn.functional.cross_entropy(output, batch.y), "output": output, "target": batch.y}


def spec():
    return TrainSpec(
        model=GCN(),
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        metrics={"acc": metric("accuracy", num_classes=2)},
        training_step=step,
        validation_step=step,
    )


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_graphs(precision):
    def case():
        return spec(), DataLoader(graphs(10), 4, shuffle=True), DataLoader(graphs(7), 4)

    check_same(case, precision=precision)


def test_a_mean_is_weighted_by_graphs():
    losses = []

    def case():
        losses.clear()

        def told(model, batch):
            made = step(model, batch)
            losses.append((made["loss"].item(), batch.num_graphs))
            return {"loss": made["loss"]}

        one = spec()
        plain = TrainSpec(model=one.model, optimizer=one.optimizer, training_step=step, validation_step=told)
        return plain, DataLoader(graphs(10), 4), DataLoader(graphs(7), 4)

    made = check_same(case)
    last = losses[-2:]
    assert [count for _, count in last] == [4, 3]
    by_graph = sum(loss * count for loss, count in last) / 7
    assert abs(made["metrics"]["val/loss"] - by_graph) < 1e-6  # ours is summed in float32, this in float64


def test_a_lightning_dataset():
    def case():
        return spec(), LightningDataset(graphs(10), graphs(7), batch_size=4, num_workers=0)

    check_same(case)
