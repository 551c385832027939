"""Run in a process of its own: what is trained on the pretended device, beside the same on the host.

usage: on_pretended.py WHAT,... BACKEND FILE [FAULT]; writes what differs or raised, by case, and how many cases were equal
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch.utils._pytree import tree_map
from torchmetrics import Metric

from tests.checkpoint import test_resume as resume
from tests.gpu import pretended, streams
from tests.gpu.test_placement import KINDS
from unitrain import UnifiedTrainer
from unitrain.checkpoint import capture, io
from unitrain.checkpoint.gate import admitted
from unitrain.data import datamodules, transfer
from unitrain.loop import fit
from unitrain.session import run_setup
from unitrain.testing import cases
from unitrain.testing.conformance import TABLES
from unitrain.testing.models import loader
from unitrain.testing.trace import Case, Trace, differences, record
from unitrain_ignite import metrics
from unitrain_lightning import adapter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEVICE = pretended.register()

LEFT_OUT = {
    "tied": "torch moves the parameters of such a device one by one, and so unties them",
    "mixed": "torch has no autocast for such a device",
    "bf16-true": "the host has kernels of its own for half precision, which other devices do not take",
    "16-true": "the same",
    "sanity": "Lightning moves the model to the host and back, and torch makes other parameters for such a device each time",
    "device-stats": "what is logged has the name of the device",
}
"""What says nothing of a GPU, and why."""


def told(case: Case) -> bool:
    """Return whether a case says anything."""
    return not any(name in f"{case.name} {case.options.get('precision', '')}" for name in LEFT_OUT)


@contextmanager
def on_device() -> Iterator[None]:
    """Let trainers choose the pretended device."""
    with (
        pretended.Made(),
        mock.patch.object(run_setup, "choose_device", return_value=DEVICE),
        mock.patch.object(adapter, "_placed", _lightnings),
        mock.patch.object(capture, "admitted", _saved),
        mock.patch.object(io, "admitted", _saved),
    ):
        yield


def _saved(content: Any, *rest: Any) -> Any:
    """Return what a checkpoint may contain; torch writes a GPU's tensors as it writes the host's."""
    return admitted(tree_map(on_host, content), *rest)


def _lightnings(lightning: Any, *_: Any) -> dict[str, Any]:
    """Return what tells a Trainer of a device that Lightning does not know."""
    from pytorch_lightning.accelerators import CPUAccelerator
    from pytorch_lightning.strategies import SingleDeviceStrategy

    class Accelerator(CPUAccelerator):
        def setup_device(self, device: torch.device) -> None:
            assert device == DEVICE

    return {"accelerator": Accelerator(), "devices": 1, "strategy": SingleDeviceStrategy(DEVICE)}


def on_host(value: Any) -> Any:
    """Return tensors of the device as the host's; what was the host's already is marked."""
    return value.raw if isinstance(value, pretended.Pretended) else value


def traced(trace: Trace) -> Trace:
    """Return a trace with the host's tensors."""
    return replace(trace, **{one.name: tree_map(on_host, getattr(trace, one.name)) for one in fields(Trace)})


def table(name: str, backend: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Yield the cases of a table of the conformance suite."""
    for case in filter(told, TABLES[name]):

        def compared(case: Case = case) -> list[str]:
            expected = record("reference", case)
            with on_device():
                found = record(backend, case)
            assert {value.device for value in found.weights.values()} == {DEVICE}
            return differences(expected, traced(found))

        yield case.name, compared


def resumed(backend: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Yield runs that are cut within an epoch and go on, whose metrics and states come from the host's memory."""
    for name, (case, after) in resume.CASES.items():
        if not told(replace(case, name=name)) or "workers" in name:
            continue

        def compared(case: Case = case, after: int = after, name: str = name) -> list[str]:
            with tempfile.TemporaryDirectory() as folder, on_device():
                resume.written(backend, case, after, Path(folder) / "run.ckpt")
                found = resume.resumed(backend, case, Path(folder) / "run.ckpt")
            resume.assert_goes_on(resume.uninterrupted(name), traced(found))
            return []

        yield name, compared


def stages(backend: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Yield what a trainer does beside a fit."""

    def done(stage: str) -> Any:
        torch.manual_seed(3)
        spec = cases.spec("cnn")
        trainer = UnifiedTrainer(backend, max_epochs=1, seed=1, enable_progress_bar=False)
        trainer.fit(spec, loader())
        return getattr(trainer, stage)(spec, loader(shuffle=False))

    for stage in ("validate", "test", "predict"):

        def compared(stage: str = stage) -> list[str]:
            expected = done(stage)
            with on_device():
                found = done(stage)
            return differences(expected, found)  # predictions are the host's

        yield stage, compared


def ignite_metrics(backend: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Yield a run that is cut within an epoch and goes on, with metrics of Ignite's, which are made for a device."""
    from ignite.metrics import Accuracy, Precision

    def spec(device: torch.device) -> Any:
        given = {"acc": Accuracy(device=device), "precision": Precision(average=False)}  # the host's
        return cases.spec("cnn", metrics=given)

    def compared() -> list[str]:
        expected = record("reference", resume.case_of("", spec=partial(spec, torch.device("cpu"))))
        case = resume.case_of("", spec=partial(spec, DEVICE))
        with tempfile.TemporaryDirectory() as folder, on_device():
            resume.written(backend, case, resume.BATCHES + 2, Path(folder) / "run.ckpt")
            found = resume.resumed(backend, case, Path(folder) / "run.ckpt")
        resume.assert_goes_on(expected, traced(found))
        return []

    yield "ignite metrics", compared


def prefetched(backend: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Yield the cases of data whose batches are copied on a stream of their own, and what was freed too early."""
    for name in ("data", "loaders"):
        for case in filter(told, TABLES[name]):

            def compared(case: Case = case) -> list[str]:
                expected, double = record("reference", case), streams.Streams()
                own = replace(case, options={**case.options, "prefetch_to_device": True})
                transfer._copying.cache_clear()
                with on_device(), mock.patch.dict(transfer.STREAMS, {pretended.NAME: double}):
                    found = record(backend, own)
                assert double.copies
                return differences(expected, traced(found)) + double.early

            yield case.name, compared


class Masked(Mapping):
    """Has a tensor beside its items."""

    def __init__(self, inputs: Any, target: Any) -> None:
        self._items, self.mask = {"input": inputs}, target

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


class Hidden:
    """Keeps its tensors where nobody finds them."""

    def __init__(self, inputs: Any, target: Any) -> None:
        self.read = lambda: (inputs, target)

    def to(self, device: torch.device) -> Hidden:
        """Return it on ``device``."""
        return Hidden(*(one.to(device) for one in self.read()))


class Doubled:
    """Computes on the device as it moves."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def to(self, device: torch.device) -> Doubled:
        """Return twice of it."""
        return Doubled(self.value.to(device) * 2)


def prefetched_batches(_: str) -> Iterator[tuple[str, Callable[[], list[str]]]]:
    """Yield batches of every kind, and one that the device still computes."""
    kinds = {
        **KINDS,
        "mapping with attributes": (Masked, lambda batch: (batch["input"], batch.mask)),
        "hidden": (Hidden, lambda batch: batch.read()),
        "in an object": (lambda x, y: SimpleNamespace(x=x, rest=[y]), lambda batch: (batch.x, batch.rest[0])),
    }

    def moved(given: Any, parts: Callable[[Any], Any], expected: Any, double: streams.Streams) -> list[str]:
        transfer._copying.cache_clear()
        with mock.patch.dict(transfer.STREAMS, {pretended.NAME: double}):
            batch = transfer.prefetched(given, DEVICE)
        found = differences(expected, tree_map(on_host, parts(batch)))
        del batch
        gc.collect()
        return found + double.early

    for name, (made, parts) in kinds.items():
        inputs, target = torch.ones(3, 36), torch.arange(3)

        def compared(made: Any = made, parts: Any = parts, pair: Any = (inputs, target)) -> list[str]:
            double = streams.Streams()
            found = moved(made(*pair), parts, parts(made(*pair)), double)
            assert double.copies == len({id(one) for one in pair})
            return found

        yield name, compared

    def late() -> list[str]:
        double, value = streams.Streams(), torch.zeros(3).to(DEVICE)
        double.computing.pending.append((value.raw, torch.full((3,), 7.0)))
        return moved(Doubled(value), lambda batch: batch.value, torch.full((3,), 14.0), double)

    yield "still computed", late


def _left(value: Any, *_: Any) -> Any:
    return value


FAULTS: dict[str, tuple[Any, str, Any]] = {
    "a batch stays on the host": (datamodules, "to_device", _left),
    "a prefetched batch stays on the host": (transfer, "to_device", _left),
    "a batch is not waited for": (streams.Stream, "wait_stream", _left),
    "what is still computed is not waited for": (transfer._Copies, "_wait_for", _left),
    "the stream that computes is not recorded": (pretended.Pretended, "record_stream", _left),
    "a metric's state stays on the host": (fit, "to_device", _left),
    "a metric stays on the host": (Metric, "to", _left),
    "an Ignite metric's state stays on the host": (metrics, "_where", lambda _, state: state),
}
"""Where, and what stands there instead."""


def main(what: str, backend: str, file: str, fault: str = "") -> None:
    """Run and write."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if fault:
        mock.patch.object(*FAULTS[fault]).start()
    sections = {
        "resume": resumed,
        "stages": stages,
        "ignite metrics": ignite_metrics,
        "prefetched": prefetched,
        "prefetched batches": prefetched_batches,
    }
    wrong, equal = {}, 0
    for section in what.split(","):
        for name, compared in sections[section](backend) if section in sections else table(section, backend):
            try:
                found = compared()
            except Exception as error:  # noqa: BLE001 - all are told at the end
                found = [f"{type(error).__name__}: {error}"[:500]]
            if found:
                wrong[f"{section}: {name}"] = found[:3]
            equal += not found
    Path(file).write_text(json.dumps({"wrong": wrong, "equal": equal}))


if __name__ == "__main__":
    main(*sys.argv[1:])
