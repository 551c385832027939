"""Train a digit classifier on both backends, serve each model over HTTP, and ask both services about one digit.

``trainer.serve()`` exports the model, verifies the export, and serves it in a process of its own. Python asks, and curl
where it is installed. Both services answer with the same bytes, because training gave the same bits. Nothing is
downloaded.

    python examples/serve_digits.py
    python examples/serve_digits.py --framework lightning --epochs 5
"""

import argparse
import json
import shutil
import subprocess
import urllib.request
from functools import partial

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import InferenceEngine, TrainSpec, UnifiedTrainer, metric, seed_everything

digits = load_digits()
images = torch.tensor(digits.data / 16, dtype=torch.float32)
data = TensorDataset(images[:1500], torch.tensor(digits.target[:1500]))


def trained(framework: str, epochs: int) -> UnifiedTrainer:
    """Return a trainer that has run on ``framework``."""
    seed_everything(0)
    spec = TrainSpec(
        model=nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        metrics={"acc": metric("accuracy", num_classes=10)},
        example_input=images[:2],
    )
    trainer = UnifiedTrainer(framework, max_epochs=epochs, seed=0, enable_progress_bar=False)
    trainer.fit(spec, DataLoader(data, 32, shuffle=True))
    return trainer


def asked(url: str, rows: list) -> bytes:
    """Return the bytes of the answer for ``rows``."""
    body = json.dumps({"data": rows}).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})  # noqa: S310 - our own
    with urllib.request.urlopen(request) as answer:  # noqa: S310 - as above
        return answer.read()


def ask_with_curl(url: str, rows: list) -> None:
    """Print what ``curl`` prints, where it is installed."""
    if shutil.which("curl"):
        command = ["curl", "-s", f"{url}/predict", "-H", "Content-Type: application/json"]
        done = subprocess.run([*command, "-d", json.dumps({"data": rows})], capture_output=True, check=True)  # noqa: S603
        print("curl:", done.stdout.decode()[:60], "...")


def main() -> None:
    """Train, serve, ask."""
    parser = argparse.ArgumentParser(description="Train on both backends, serve each model, and ask both services.")
    parser.add_argument(
        "--framework",
        choices=("lightning", "ignite"),
        default="ignite",
        help="the backend whose engine answers in Python at the end (default: %(default)s)",
    )
    parser.add_argument("--epochs", type=int, default=3, help="how long to train (default: %(default)s)")
    parser.add_argument("--digit", type=int, default=1600, help="which digit to ask about (default: %(default)s)")
    options = parser.parse_args()

    row, trainers, answers = images[options.digit].tolist(), {}, {}
    for framework in ("lightning", "ignite"):
        trainers[framework] = trained(framework, options.epochs)
        with trainers[framework].serve(port=0) as server:  # port=0 picks a free one
            answers[framework] = asked(server.url, row)
            ask_with_curl(server.url, row)
    answer = json.loads(answers["ignite"])
    scores = answer["prediction"]
    print(f"this is a {scores.index(max(scores))}, says the service, with {answer['confidence']:.0%} confidence")
    print("the same bytes on both backends:", answers["lightning"] == answers["ignite"])
    engine = InferenceEngine(trainers[options.framework])  # without HTTP, on the real Engine or Trainer
    one = images[options.digit : options.digit + 1]
    print("in Python:", engine.predict(one).argmax().item(), "on", type(engine.native).__name__)


if __name__ == "__main__":
    main()
