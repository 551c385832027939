"""Steps of two processes, imports, the command line and compiled first steps: what needs processes of its own.

python -m tests.bench.around_processes compiled VARIANT    # prints the seconds of a compiled first step
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from tests.bench.around import row
from tests.bench.timing import quiet
from tests.bench.work import fully_connected
from unitrain import Event, TrainSpec, UnifiedTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.bench.around import Row

FRAMEWORKS = ("ignite", "lightning")
PROCESSES, STEPS, SIZE, PARTS, WIDTH = 2, 80, 64, 6, 512
TOGETHER = "a loop by hand with DDP"


# --- two processes --------------------------------------------------------------------------------------------------------


def net() -> nn.Module:
    """Return half a million parameters."""
    torch.manual_seed(0)
    return fully_connected(WIDTH, WIDTH, WIDTH, 10)


@cache
def samples() -> TensorDataset:
    """Return the samples of all processes."""
    generator = torch.Generator().manual_seed(0)
    many = PROCESSES * STEPS * SIZE
    return TensorDataset(torch.randn(many, WIDTH, generator=generator), torch.arange(many) % 10)


class ByHand:
    """Trains with DistributedDataParallel in the running process group."""

    def __init__(self) -> None:
        self.model = DistributedDataParallel(net())
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.data = DataLoader(samples(), SIZE, sampler=DistributedSampler(samples(), shuffle=False))
        self.epoch()  # in which DDP lays out its buckets again

    def epoch(self) -> float:
        """Return the seconds of an epoch."""
        dist.barrier()
        began = time.perf_counter()
        for inputs, target in self.data:
            self.optimizer.zero_grad()
            nn.functional.cross_entropy(self.model(inputs), target).backward()
            self.optimizer.step()
        return time.perf_counter() - began


class Beside:
    """Measures each epoch of a run, and after each the loop by hand, in the same processes and process group.

    Args:
        path: Where rank 0 leaves the ratio.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.began, self.own, self.theirs = path, 0.0, [], []
        self.by_hand: ByHand | None = None

    def begin(self) -> None:
        """Start the clock."""
        self.by_hand = self.by_hand or ByHand()
        dist.barrier()
        self.began = time.perf_counter()

    def end(self) -> None:
        """Stop it, and let the loop by hand do the same."""
        self.own.append(time.perf_counter() - self.began)
        assert self.by_hand is not None
        self.theirs.append(self.by_hand.epoch())

    def close(self) -> None:
        """Write the ratio; the first epoch warms up."""
        pairs = zip(self.own[1:], self.theirs[1:], strict=True)
        if dist.get_rank() == 0:
            self.path.write_text(json.dumps(median(one / other for one, other in pairs)))


def together(framework: str, path: Path) -> None:
    """Train with unitrain on two processes."""
    spec = TrainSpec(model=net(), loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.01))
    options = {"accelerator": "cpu", "enable_progress_bar": False, "default_root_dir": path.parent}
    trainer = UnifiedTrainer(framework, devices=PROCESSES, max_epochs=PARTS, **options)
    measuring = Beside(path)
    trainer.on(Event.EPOCH_START, measuring.begin)
    trainer.on(Event.EPOCH_END, measuring.end)
    trainer.on(Event.FIT_END, measuring.close)
    trainer.fit(spec, DataLoader(samples(), SIZE))


def processes(folder: Path) -> Iterator[Row]:
    """Yield the time of a step of two processes."""
    for framework in FRAMEWORKS:
        path = folder / f"{framework}.json"
        with quiet():
            together(framework, path)
        yield row("a step of 2 processes", f"unitrain on {framework}", TOGETHER, json.loads(path.read_text()))


# --- fresh interpreters ---------------------------------------------------------------------------------------------------

IMPORTS = {
    "unitrain": "from unitrain import TrainSpec, UnifiedTrainer",
    "lightning": "import lightning.pytorch",
    "ignite": "import ignite.engine, ignite.handlers, ignite.metrics",
}


def fresh(*arguments: str, **environment: str) -> str:
    """Return what a fresh interpreter prints."""
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | path | environment,
    )
    return done.stdout


def least(*arguments: str, rounds: int = 2) -> float:
    """Return the least processor seconds of a fresh interpreter."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        fresh(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    once()  # reads the files from the disk
    return min(once() for _ in range(rounds))


def start() -> Iterator[Row]:
    """Yield the time of imports and of the command line."""
    base = least("-c", "import torch")
    for name, code in IMPORTS.items():
        yield row("import", name, "import torch, processor time", least("-c", f"import torch; {code}") / base)
    yield row("unitrain --help", "unitrain", "import torch, processor time", least("-m", "unitrain", "--help") / base)


def first_step(variant: str) -> float:
    """Return the seconds of building a compiled model and training it on one batch."""
    model, (inputs, target) = net(), next(iter(DataLoader(samples(), SIZE)))
    warm = nn.functional.cross_entropy(net()(inputs), target)
    warm.backward()  # type: ignore[no-untyped-call]
    ways: dict[str, Callable[[], object]] = {
        "": partial(compiled_by_hand, model, inputs, target),
        **{f"unitrain on {one}": partial(compiled, one, model, inputs, target) for one in FRAMEWORKS},
    }
    began = time.perf_counter()
    ways[variant]()
    return time.perf_counter() - began


def compiled_by_hand(model: nn.Module, inputs: Any, target: Any) -> None:
    """Train a step of what torch compiles."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    nn.functional.cross_entropy(torch.compile(model)(inputs), target).backward()
    optimizer.step()


def compiled(framework: str, model: nn.Module, inputs: Any, target: Any) -> None:
    """Do the same with unitrain."""
    spec = TrainSpec(model=model, loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.01))
    options = {"accelerator": "cpu", "enable_progress_bar": False}
    UnifiedTrainer(framework, max_epochs=1, compile=True, **options).fit(spec, [(inputs, target)])


def compiling(folder: Path) -> Iterator[Row]:
    """Yield the time of a first step with ``compile=True``, of which nothing is cached."""

    def once(variant: str, number: int) -> float:
        cache = str(folder / f"{variant.replace(' ', '-')}-{number}")  # compilers split at spaces
        return float(fresh("-m", __name__, "compiled", variant, TORCHINDUCTOR_CACHE_DIR=cache).split()[-1])

    before = once("", 0)
    took = {framework: once(f"unitrain on {framework}", 0) for framework in FRAMEWORKS}
    base = (before + once("", 1)) / 2
    for framework, seconds in took.items():
        yield row("first step with compile=True", f"unitrain on {framework}", "torch.compile by hand", seconds / base)


def compared() -> Iterator[Row]:
    """Yield what was reached, beside the goals."""
    with TemporaryDirectory() as place:
        yield from processes(Path(place))
        yield from start()
        yield from compiling(Path(place))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with quiet():
        found = first_step(sys.argv[2])
    print(found)  # noqa: T201 - what the process that asks reads
