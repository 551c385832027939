"""Train a digit classifier while Prometheus scrapes it, and read the values back from Prometheus.

Where Prometheus is installed (Debian's package ``prometheus``), it is started beside the training, with the alert rules
of ``examples/monitoring``. Where it is not, the page that it would scrape is read. The dashboards of
``examples/monitoring`` show the same metrics in Grafana. Nothing is downloaded.

    python examples/monitor_digits.py
    python examples/monitor_digits.py --framework lightning --epochs 20
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from prometheus_client.parser import text_string_to_metric_families
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import Event, PrometheusLogger, TrainSpec, UnifiedTrainer, metric, seed_everything

RULES = Path(__file__).with_name("monitoring") / "alerts.yml"
Values = dict[str, float]


def make_spec() -> TrainSpec:
    """Return what is trained."""
    return TrainSpec(
        model=nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
        metrics={"acc": metric("accuracy", num_classes=10)},
    )


def make_loaders() -> tuple[DataLoader, DataLoader]:
    """Return the loaders of the training data and the validation data."""
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target))
    train, val = torch.utils.data.random_split(data, [1500, len(data) - 1500])
    return DataLoader(train, 32, shuffle=True), DataLoader(val, 256)


def read(url: str) -> str:
    """Return what is at ``url``, a server of this machine."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own
        return answer.read().decode()


@contextmanager
def prometheus_beside(scraped: int, port: int) -> Iterator[str | None]:
    """Run Prometheus until the end of the block; yield its URL, or None where it is not installed."""
    if shutil.which("prometheus") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "prometheus.yml"
        jobs = [{"job_name": "training", "static_configs": [{"targets": [f"127.0.0.1:{scraped}"]}]}]
        settings = {"global": {"scrape_interval": "200ms"}, "rule_files": [str(RULES)], "scrape_configs": jobs}
        config.write_text(json.dumps(settings))  # JSON is YAML too
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data"]
        server = subprocess.Popen(  # noqa: S603 - our own arguments
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()


def ask_prometheus(url: str) -> Values:
    """Return the values in Prometheus, once it has scraped the run again."""
    fresh = f'{{__name__=~"unitrain_.*"}} and on (run) timestamp(unitrain_step) > {time.time()}'
    query = urllib.parse.urlencode({"query": fresh})
    for _ in range(300):
        try:
            found = json.loads(read(f"{url}/api/v1/query?{query}"))["data"]["result"]
        except OSError:  # it is still starting
            found = []
        if found:
            return {one["metric"]["__name__"]: float(one["value"][1]) for one in found}
        time.sleep(0.1)
    raise TimeoutError("Prometheus has not scraped the run within 30 s")


def ask_the_run(tracker: PrometheusLogger) -> Values:
    """Return the values on the page that Prometheus would scrape."""
    families = text_string_to_metric_families(read(tracker.url))
    return {sample.name: sample.value for family in families for sample in family.samples}


def main() -> None:
    """Train, and compare what Prometheus has read with the result."""
    parser = argparse.ArgumentParser(description="Train while Prometheus scrapes the run, and read the values back.")
    parser.add_argument(
        "--framework", default="ignite", choices=("lightning", "ignite", "reference"), help="default: %(default)s"
    )
    parser.add_argument("--epochs", type=int, default=5, help="how long to train (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9100, help="the port of the training (default: %(default)s)")
    parser.add_argument("--prometheus", type=int, default=9090, help="the port of Prometheus (default: %(default)s)")
    options = parser.parse_args()

    seed_everything(0)
    tracker, values = PrometheusLogger(port=options.port, job="digits"), {}
    trainer = UnifiedTrainer(
        options.framework, max_epochs=options.epochs, seed=0, loggers=[tracker], enable_progress_bar=False
    )
    with prometheus_beside(options.port, options.prometheus) as url:

        @trainer.on(Event.FIT_END)
        def look() -> None:  # before the port closes, which it does with the run
            values.update(ask_the_run(tracker) if url is None else ask_prometheus(url))

        result = trainer.fit(make_spec(), *make_loaders())
    source = "the page of the run" if url is None else "Prometheus"
    print(f"trained on {options.framework}: {result.step} steps; {source} has read")
    for name, value in sorted(result.metrics.items()):
        read_back = values[f"unitrain_{name.replace('/', '_')}"]
        print(f"{name:10} {read_back:.6f}")
        assert read_back == value, f"{name}: {value} in the result"  # noqa: S101 - this is what the example shows
    print("equal to the result: yes")


if __name__ == "__main__":
    main()
