"""Train a digit classifier, deploy it on this machine, replace it by a better one under load, and remove it.

Nothing but this machine is needed, and nothing is downloaded; ``provider="aws"`` or ``"gcp"`` deploys to a cloud. A
client asks all the time; no request fails while the model is replaced.

    python examples/deploy_digits.py
    python examples/deploy_digits.py --framework lightning --epochs 5
"""

import argparse
import json
import tempfile
import threading
import urllib.request
from functools import partial
from pathlib import Path
from typing import Self

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unitrain
from unitrain import Deployment, TrainSpec, UnifiedTrainer, metric, seed_everything

digits = load_digits()
images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)


def trained(framework: str, epochs: int) -> UnifiedTrainer:
    """Return a trainer that has run."""
    seed_everything(0)
    spec = TrainSpec(
        model=nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        metrics={"acc": metric("accuracy", num_classes=10)},
        example_input=images[:2],
    )
    trainer = UnifiedTrainer(framework, max_epochs=epochs, seed=0, enable_progress_bar=False)
    trainer.fit(spec, DataLoader(TensorDataset(images[:1500], labels[:1500]), 32, shuffle=True))
    return trainer


def accuracy(deployment: Deployment) -> float:
    """Return the share of the other digits that the deployed model tells right."""
    return (deployment.predict(images[1500:]).argmax(-1) == labels[1500:]).float().mean().item()


class Client:
    """Asks all the time, from a thread."""

    def __init__(self, url: str) -> None:
        self._url, self._end = url, threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no part in this
        self.answered = self.failed = 0

    def _ask(self) -> None:
        body = json.dumps({"data": images[0].tolist()}).encode()
        while not self._end.wait(0.01):
            asked = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})  # noqa: S310 - our own
            try:
                self._opener.open(asked).close()
                self.answered += 1
            except OSError:
                self.failed += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def main() -> None:
    """Train, bundle, deploy, update, remove."""
    parser = argparse.ArgumentParser(description="Deploy a digit classifier on this machine, update it, and remove it.")
    parser.add_argument(
        "--framework",
        choices=("lightning", "ignite"),
        default="ignite",
        help="what runs the training; the bundles are the same bytes (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs", type=int, default=3, help="how long the better model is trained (default: %(default)s)"
    )
    parser.add_argument("--name", default="digits", help="the name of the deployment (default: %(default)s)")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        here = partial(unitrain.deploy, provider="local", name=options.name, folder=Path(folder) / "deployments")
        first = unitrain.bundle(trained(options.framework, 1), Path(folder) / "first", name="digits")
        print(f"trained on {options.framework}; the bundle is {first.digest[:12]}")
        deployment = here(first)
        try:
            print(deployment)
            print(f"accuracy after one epoch: {accuracy(deployment):.3f}")
            with Client(deployment.url) as client:
                trainer = trained(options.framework, options.epochs)
                deployment = here(unitrain.bundle(trainer, Path(folder) / "better", name="digits"))
            print(deployment)
            print(f"accuracy after {options.epochs} epochs: {accuracy(deployment):.3f}")
            print(f"requests that failed: {client.failed}; some were answered: {client.answered > 0}")
        finally:
            deployment.undeploy()  # it would outlive this script
        print(deployment.status())


if __name__ == "__main__":
    main()
