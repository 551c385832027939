"""What a step exchanges and how long that takes: by the formulas, and as hosts made of network namespaces show it.

    python -m tests.bench.scale

It takes some three minutes and writes tests/bench/scale.json, from which `make docs` makes the table of docs/scale.md.
It needs Linux, the programs `ip` and `tc`, and the right to make network namespaces.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests.bench import scale_model as model
from tests.bench.scaled import workload
from tests.distributed.launching import finish
from tests.distributed.network import NoNetworkError, delay, limit, switched

# ruff: noqa: T201 - it is a script

FILE = Path(__file__).with_name("scale.json")
ROOT = Path(__file__).parents[2]
PORT = 29433
RATES = {"100mbit": 100e6 / 8, "40mbit": 40e6 / 8}
"""By tc's name, in bytes a second."""
PLANS = [
    ("ddp", 2, "100mbit"),
    ("ddp", 2, "40mbit"),
    ("ddp", 4, "100mbit"),
    ("fsdp", 2, "100mbit"),
    ("fsdp", 4, "100mbit"),
]


@dataclass(frozen=True)
class Measured:
    """What a step was measured to send and to take, the mean of all hosts.

    Attributes:
        bytes: What the card of a host sent.
        seconds: The time of a step.
    """

    bytes: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """A prediction beside its measurement.

    Attributes:
        strategy: DDP or FSDP.
        size: How many hosts, one process each.
        rate: What a card may send at most.
        payload: The bytes of tensors that a process sends in a step, by the formula.
        counted: The bytes that its card sent.
        most: The bytes that it may send with what the protocols add.
        unlimited: The seconds of a step on the unlimited network.
        predicted: The seconds of a step on the limited one, by the formula.
        seconds: As they were measured.
    """

    strategy: str
    size: int
    rate: str
    payload: float
    counted: float
    most: float
    unlimited: float
    predicted: float
    seconds: float


def predicted(strategy: str, size: int) -> model.Exchange:
    """Return what a step sends, by the formulas."""
    return model.ddp(size, workload()) if strategy == "ddp" else model.fsdp(size, workload(), gloo=True)


def measured(strategy: str, size: int, rate: str | None = None, framework: str = "ignite") -> Measured:
    """Train on ``size`` hosts whose cards send at most ``rate``.

    Raises:
        NoNetworkError: If this system does not let us.
    """
    with switched(size) as hosts, TemporaryDirectory() as folder:
        for host in hosts if rate else ():
            limit(host, rate or "")
        script = [sys.executable, "-m", "tests.bench.scaled", folder, strategy, framework]
        places = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
        started = []
        for rank, host in enumerate(hosts):
            world = {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
            meeting = {"MASTER_ADDR": hosts[0].address, "MASTER_PORT": str(PORT), "PYTHONPATH": places}
            started.append(host.start(*script, host.card, size, **world, **meeting))
        finish(*started)
        found = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(size)]
    return Measured(mean(one["bytes"] for one in found), mean(one["seconds"] for one in found))


def compared(strategy: str, size: int, rate: str, unlimited: Measured) -> Row:
    """Return a row: the step of the unlimited network, and beside it what a slow card adds, predicted and measured."""
    exchange, limited = predicted(strategy, size), measured(strategy, size, rate)
    least, most = model.on_the_wire(size, exchange)
    slow = model.Link(RATES[rate]).seconds(exchange, wire=model.OVERHEAD)
    seconds = unlimited.seconds + slow
    return Row(strategy, size, rate, least, limited.bytes, most, unlimited.seconds, seconds, limited.seconds)


def delayed() -> str:
    """Return why nothing could be delayed, or an empty text."""
    try:
        with switched(1) as hosts:
            delay(hosts[0], 1)
    except NoNetworkError as error:
        return str(error)
    return ""


def table() -> dict[str, Any]:
    """Return all rows and where they were measured, for a file."""
    rows, quick = [], {}
    for strategy, size, rate in PLANS:
        if (strategy, size) not in quick:
            quick[strategy, size] = measured(strategy, size)
        rows.append(compared(strategy, size, rate, quick[strategy, size]))
        print(told(asdict(rows[-1])), flush=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release().partition('-')[0]}",
        "torch": torch.__version__,
        "no_delay": delayed(),
        "rows": [asdict(row) for row in rows],
    }


def told(row: dict[str, Any]) -> str:
    """Return a row for a console."""
    over = row["counted"] / row["payload"] - 1
    error = row["predicted"] / row["seconds"] - 1
    return (
        f"{row['strategy']:5} {row['size']} hosts {row['rate']:8} predicted {row['payload'] / 1e6:7.3f} MB, counted"
        f" {row['counted'] / 1e6:7.3f} MB ({over:+.1%}); predicted {row['predicted'] * 1e3:7.1f} ms, measured"
        f" {row['seconds'] * 1e3:7.1f} ms ({error:+.1%}); unlimited {row['unlimited'] * 1e3:6.1f} ms"
    )


def main() -> None:
    """Measure, print and write."""
    began = time.perf_counter()
    found = table()
    print(found["no_delay"] or "delays are possible here", f"{time.perf_counter() - began:.0f} s")
    FILE.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
