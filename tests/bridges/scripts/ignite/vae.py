"""A variational autoencoder: process functions, an evaluator and metrics with transforms."""

import torch
from ignite.engine import Engine, Events
from ignite.metrics import MeanSquaredError, Metric, RunningAverage
from ignite.metrics import Average, MetricsLambda
from ignite.exceptions import NotComputableError
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

SEED = 1234
torch.manual_seed(SEED)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 20)
        self.fc21 = nn.Linear(20, 3)
        self.fc22 = nn.Linear(20, 3)
        self.fc3 = nn.Linear(3, 20)
        self.fc4 = nn.Linear(20, 12)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


class KLD(Metric):
    """The divergence from the prior, averaged over all samples."""

    def reset(self):
        self._sum, self._n = 0.0, 0

    def update(self, output):
        mu, logvar = output
        self._sum += (-0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())).item()
        self._n += len(mu)

    def compute(self):
        if self._n == 0:
            raise NotComputableError("no samples")
        return self._sum / self._n


data = torch.rand(160, 1) * 0.8 + 0.2 * torch.rand(160, 12)
train_loader = DataLoader(data[:128], batch_size=16, shuffle=True)
val_loader = DataLoader(data[128:], batch_size=16)
model = VAE()
optimizer = optim.Adam(model.parameters(), lr=5e-3)


def bce(pred, x):
    return F.binary_cross_entropy(pred, x, reduction="sum")


def process_function(engine, batch):
    model.train()
    optimizer.zero_grad()
    x_pred, mu, logvar = model(batch)
    loss = bce(x_pred, batch) - 0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    loss.backward()
    optimizer.step()
    return loss.item(), len(batch)


def evaluate_function(engine, batch):
    model.eval()
    with torch.no_grad():
        x_pred, mu, logvar = model(batch)
        return {"x_pred": x_pred, "x": batch, "mu": mu, "logvar": logvar}


trainer = Engine(process_function)
evaluator = Engine(evaluate_function)
training_history = {"loss": [], "mse": []}

RunningAverage(output_transform=lambda out: out[0]).attach(trainer, "running loss")
Average(output_transform=lambda out: out[0] / out[1]).attach(trainer, "loss per sample")
mse = MeanSquaredError(output_transform=lambda out: (out["x_pred"], out["x"]))
mse.attach(evaluator, "mse")
kld = KLD(output_transform=lambda out: [out["mu"], out["logvar"]])
kld.attach(evaluator, "kld")
MetricsLambda(lambda a, b: a + 0.01 * b, mse, kld).attach(evaluator, "score")


@trainer.on(Events.EPOCH_COMPLETED)
def print_trainer_logs(engine):
    values = engine.state.metrics
    print(
        f"Trainer Results - Epoch {engine.state.epoch} - {values['running loss']:.5f} {values['loss per sample']:.5f}"
    )


def print_logs(engine, dataloader, mode, history):
    evaluator.run(dataloader, max_epochs=1)
    metrics = evaluator.state.metrics
    if mode == "Validation":
        history["mse"].append(metrics["mse"])
    print(mode, f"epoch {engine.state.epoch}", {name: round(value, 6) for name, value in metrics.items()})


trainer.add_event_handler(Events.EPOCH_COMPLETED, print_logs, train_loader, "Training", training_history)
trainer.add_event_handler(Events.EPOCH_COMPLETED, print_logs, val_loader, mode="Validation", history=training_history)

e = trainer.run(train_loader, max_epochs=3)
print("finished", e.epoch, e.iteration, [round(m, 6) for m in training_history["mse"]])
