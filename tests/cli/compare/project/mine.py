"""What `run.yaml` names, and the same training in Python."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unitrain


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 3))

    def forward(self, inputs):
        return self.layers(inputs)


def data(count: int = 32) -> DataLoader:
    inputs = torch.randn(count, 4)
    return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), 8, shuffle=True)


class Faulty(unitrain.Callback):
    """Changes one gradient by one ulp in step 3, on one backend only."""

    def __init__(self, engine: str = "NoneType") -> None:
        self.engine = engine

    def on_backward_end(self, run):
        if run.state.step == 2 and type(run.native).__name__ == self.engine:
            gradient = run.model.layers[3].bias.grad
            gradient[1] = torch.nextafter(gradient[1], torch.tensor(torch.inf))


class Crashing(Faulty):
    def on_backward_end(self, run):
        if type(run.native).__name__ == self.engine:
            raise RuntimeError("no such luck")


def make():
    def adam(parameters):
        return torch.optim.AdamW(parameters, lr=1e-2)

    spec = unitrain.TrainSpec(model=Net(), loss=nn.CrossEntropyLoss(), optimizer=adam)
    return spec, data(), None, {"max_epochs": 1}


def make_loop():
    unitrain.seed_everything(7)
    model, loader = Net(), data()
    unitrain.seed_everything(7)  # the seed of the file is sown before the fit too
    optimizer, criterion = torch.optim.AdamW(model.parameters(), lr=1e-2), nn.CrossEntropyLoss()
    for inputs, classes in loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), classes)
        loss.backward()
        optimizer.step()
        yield {"model": model, "loss": loss, "batch": (inputs, classes)}


number = 3
