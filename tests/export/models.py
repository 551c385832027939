"""The four models that every format has to carry, and a short training of each."""

from functools import partial

import torch
from torch import nn

from unitrain import TrainSpec, UnifiedTrainer

ROWS = 8


class Encoder(nn.Module):
    """A transformer encoder over sequences of any length."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        return self.head(self.encoder(self.embed(ids)).mean(1))


class TakesDict(nn.Module):
    """Takes a dict, gives a dict."""

    def __init__(self):
        super().__init__()
        self.embed = nn.EmbeddingBag(7, 4)
        self.numbers = nn.Linear(5, 4)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))

    def forward(self, batch):
        joined = torch.cat([self.numbers(batch["numbers"]), self.embed(batch["kinds"])], 1)
        return {"logits": self.head(joined), "features": joined}


class Towers(nn.Module):
    """Takes a dict, gives a dict, and has nothing that ExecuTorch lacks: that is EmbeddingBag."""

    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Linear(8, 16), nn.Linear(4, 16)
        self.logits, self.value = nn.Linear(16, 3), nn.Linear(16, 1)

    def forward(self, batch):
        joined = torch.relu(self.user(batch["user"]) + self.item(batch["item"]))
        return {"logits": self.logits(joined), "value": self.value(joined)}


def mlp():
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def cnn():
    parts = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*parts, nn.Dropout(0.3), nn.Linear(4 * 4 * 4, 3))


MODELS = {
    "mlp": (mlp, lambda rows: torch.randn(rows, 5)),
    "cnn": (cnn, lambda rows: torch.randn(rows, 1, 8, 8)),
    "transformer": (Encoder, lambda rows: torch.randint(0, 11, (rows, 6))),
    "dict": (TakesDict, lambda rows: {"numbers": torch.randn(rows, 5), "kinds": torch.randint(0, 7, (rows, 2))}),
}

OTHERS = {"towers": (Towers, lambda rows: {"user": torch.randn(rows, 8), "item": torch.randn(rows, 4)})}


def loss_of(output, target):
    logits = output["logits"] if isinstance(output, dict) else output
    return nn.functional.cross_entropy(logits, target)


def made(name):
    """Return the model as it is before training, and an example of its input."""
    make, inputs = {**MODELS, **OTHERS}[name]
    torch.manual_seed(7)
    return make(), inputs(2)


def trained(name, backend, folder, **spec):
    """Train for an epoch; return the trainer and its checkpoint."""
    model, example = made(name)
    inputs = {**MODELS, **OTHERS}[name][1]
    data = [(inputs(ROWS), torch.randint(0, 3, (ROWS,))) for _ in range(3)]
    trainer = UnifiedTrainer(backend, max_epochs=1, seed=7, enable_progress_bar=False, accelerator="cpu")
    optimizer = partial(torch.optim.SGD, lr=0.1)
    trainer.fit(TrainSpec(model=model, loss=loss_of, optimizer=optimizer, example_input=example, **spec), data)
    path = folder / f"{name}-{backend}.ckpt"
    trainer.save_checkpoint(path)
    return trainer, path
