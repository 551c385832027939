"""What `run.yaml` names: a model, losses, steps and data that any machine trains in a second."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unitrain


class Net(nn.Module):
    """A classifier of 4 values.

    Args:
        width: Number of hidden values.
        activation: The module between the layers.
        dropout: The probability of dropout.
    """

    def __init__(self, width: int, activation: nn.Module | None = None, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = nn.Linear(4, width)
        self.layers = nn.Sequential(hidden, activation or nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 3))

    def forward(self, x):
        return self.layers(x)


def rows(count):
    x = torch.randn(count, 4)
    return TensorDataset(x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long())


def data(batch_size: int = 8, count: int = 40) -> unitrain.DataSpec:
    train, other = rows(count), rows(16)
    loader = DataLoader(other, 8)
    return unitrain.DataSpec(
        train=DataLoader(train, batch_size, shuffle=True), val=loader, test=loader, predict=[x for x, _ in loader]
    )


def train_alone() -> unitrain.DataSpec:
    return unitrain.DataSpec(train=DataLoader(rows(16), 8))


def pair(batch_size: int = 8):
    return DataLoader(rows(16), batch_size), DataLoader(rows(8), batch_size)


def triple():
    return 1, 2, 3


class Module:
    """A datamodule."""

    def __init__(self, batch_size: int = 8) -> None:
        self.batch_size = batch_size

    def prepare_data(self):
        self.rows = rows(16)

    def setup(self, stage):
        self.stage = stage

    def train_dataloader(self):
        return DataLoader(self.rows, self.batch_size)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader

    def teardown(self, stage):
        pass


def smooth_loss(output, target, smoothing: float = 0.0):
    return nn.functional.cross_entropy(output, target, label_smoothing=smoothing)


def training_step(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def error_rate(output, target):
    return (output.argmax(1) != target).float().mean()


def make_spec(width: int = 4) -> unitrain.TrainSpec:
    return unitrain.TrainSpec(
        model=Net(width), loss=nn.CrossEntropyLoss(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    )


class Wanting(nn.Module):
    """A model that refuses its argument."""

    def __init__(self, width: int = 0) -> None:
        super().__init__()
        if not width:
            raise ValueError("width must be positive")


class Anything:
    """Takes whatever is given."""

    def __init__(self, one, name: str | int = "", options: dict | None = None, **more) -> None:
        self.given = {"one": one, "name": name, "options": options, **more}


number = 3
