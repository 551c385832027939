"""pytorch-metric-learning: losses with a miner, and losses that have parameters of their own."""

from functools import partial

import torch
from pytorch_metric_learning import losses, miners, samplers
from torch.utils.data import DataLoader, TensorDataset

from tests.downstream.same import check_same
from unitrain import TrainSpec


def points(count):
    return TensorDataset(torch.rand(count, 4), torch.arange(count) % 4)


def net():
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 4))


def loaders():
    data = points(32)
    sampler = samplers.MPerClassSampler(data.tensors[1], m=2, batch_size=8, length_before_new_iter=32)
    return DataLoader(data, 8, sampler=sampler), DataLoader(points(8), 8)


def test_triplets_that_a_miner_finds():
    def case():
        loss, miner = losses.TripletMarginLoss(margin=0.2), miners.MultiSimilarityMiner()

        def step(model, batch):
            embedded, labels = model(batch[0]), batch[1]
            return loss(embedded, labels, miner(embedded, labels))

        spec = TrainSpec(
            model=net(),
            optimizer=partial(torch.optim.Adam, lr=1e-2),
            training_step=step,
            validation_step=lambda model, batch: {"loss": step(model, batch)},
        )
        return (spec, *loaders())

    check_same(case)


def test_a_plain_loss():
    def case():
        spec = TrainSpec(model=net(), loss=losses.NTXentLoss(), optimizer=partial(torch.optim.Adam, lr=1e-2))
        return (spec, *loaders())

    check_same(case)


def test_a_loss_with_weights_of_its_own():
    def case():
        parts = torch.nn.ModuleDict({"net": net(), "loss": losses.ArcFaceLoss(num_classes=4, embedding_size=4)})

        def step(model, batch):
            return model["loss"](model["net"](batch[0]), batch[1])

        spec = TrainSpec(
            model=parts,
            optimizer=partial(torch.optim.Adam, lr=1e-2),
            training_step=step,
            validation_step=lambda model, batch: {"loss": step(model, batch)},
        )
        return (spec, *loaders())

    check_same(case)
