"""How the reference loop measures: naive, and sharing nothing with ``unitrain.loop.meter``."""

from __future__ import annotations

import copy
from importlib import import_module
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from unitrain.data.batch import to_device
from unitrain.distributed.collectives import SINGLE_PROCESS
from unitrain.errors import SpecError
from unitrain.loop.misfits import check_metric, explain_metric
from unitrain.metrics.class_names import PerClass, Shape
from unitrain.metrics.metric import library_of
from unitrain.metrics.metric import metric as named_metric
from unitrain.metrics.tables import Table
from unitrain.testing.bare_team import everybodys, sums_of_all
from unitrain.utilities.copies import copied as deep_copy

if TYPE_CHECKING:
    from collections.abc import Mapping


class Measuring(Protocol):
    """What the running stage has measured, by name, and the size of the running batch."""

    measured: dict[str, list[Any]]
    size: int | None


def _is_ignite(metric: Any) -> bool:
    return any(cls.__module__.startswith("ignite") for cls in type(metric).__mro__)


def _is_torchmetrics(metric: Any) -> bool:
    return any(cls.__module__.startswith("torchmetrics") for cls in type(metric).__mro__)


def feed(run: Measuring, metrics: Mapping[str, Any], output: Any, target: Any) -> None:
    """Give a batch to the metrics."""
    output = output.detach() if isinstance(output, Tensor) else output
    for name, metric in metrics.items():
        given = metric.function if isinstance(metric, _Averaged) else metric
        if f"fed {name}" not in run.measured:
            check_metric(name, given, (output, target))
        try:
            _feed_one(metric, output, target, run.size)
        except Exception as error:
            explain_metric(error, name, given, (output, target))
            raise
        run.measured.setdefault(f"fed {name}", [])


def _feed_one(metric: Any, output: Any, target: Any, size: int | None) -> None:
    if hasattr(metric, "update"):
        metric.update(output, target)
        return
    with torch.no_grad():
        value = one_number("what a function returns as a metric", metric.function(output, target))
    metric.values.append((value, size))


def one_number(what: str, value: Any) -> Tensor:
    """Return ``value`` in float32, if it is one real number."""
    number = isinstance(value, (Tensor, Real))
    try:
        value = torch.tensor(float(value), dtype=torch.float32) if isinstance(value, Real) else value
    except OverflowError as error:
        raise SpecError(f"{what} is too large: {error}.") from error
    tensor = value.detach() if number else torch.empty(0)
    if tensor.numel() != 1 or tensor.is_complex():
        raise SpecError(f"{what} must be a single number; got {value!r}.")
    return tensor.float().reshape(())


class _OnAnEngine:
    """An Ignite metric, attached to an engine of Ignite's as its documentation says; the engine's events are fired."""

    def __init__(self, metric: Any) -> None:
        ignite = import_module("ignite.engine")
        self.metric = metric
        self.engine = ignite.Engine(lambda engine, batch: batch)  # noqa: ARG005 - Ignite's signature
        self.events = ignite.Events
        metric.attach(self.engine, "value")
        self.reset()

    def reset(self) -> None:
        self.engine.fire_event(self.events.STARTED)
        self.engine.fire_event(self.events.EPOCH_STARTED)

    def update(self, output: Any, target: Any) -> None:
        self.engine.fire_event(self.events.ITERATION_STARTED)
        self.engine.state.output = (output, target)
        self.engine.fire_event(self.events.ITERATION_COMPLETED)

    def compute(self) -> Any:
        self.engine.fire_event(self.events.EPOCH_COMPLETED)
        return self.engine.state.metrics["value"]

    def state_dict(self) -> dict[str, Any]:
        parts = _within(self.metric)
        return {str(number): part.state_dict() for number, part in enumerate(parts)} or dict(self.metric.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        parts = _within(self.metric)
        for number, part in enumerate(parts):
            part.load_state_dict(to_device(state[str(number)], part._device))  # noqa: SLF001 - what it was made for
        if not parts:
            self.metric.load_state_dict(to_device(state, torch.device(getattr(self.metric, "_device", "cpu"))))


def _within(metric: Any) -> list[Any]:
    """Return the metrics that a MetricsLambda computes its value from."""
    if "MetricsLambda" not in [cls.__name__ for cls in type(metric).__mro__]:
        return []
    given = [one for one in (*metric.args, *metric.kwargs.values()) if _is_ignite(one)]
    return [part for one in given for part in (_within(one) or [one])]


class _Averaged:
    """A plain function as a metric."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.reset()

    def reset(self) -> None:
        self.values: list[Any] = []

    def state_dict(self) -> dict[str, Any]:
        total, weight = _sum(self.values) if self.values else (None, 0)
        return {"total": total, "weight": weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.values = [(state["total"], state["weight"], "before")] if state["weight"] else []


class _OfALibrary:
    """A metric of a library that a package has taught unitrain, by that package's own reading of it."""

    def __init__(self, made: Any, device: torch.device) -> None:
        self.made, self.device = made, device
        self.state_dict, self.load_state_dict = made.state_dict, made.load_state_dict
        self.reset()

    def reset(self) -> None:
        self.made.reset(self.device)

    def update(self, output: Any, target: Any) -> None:
        self.made.update(output, target, 1)

    def compute(self) -> Any:
        return self.made.compute(SINGLE_PROCESS)


def copied(metric: Any, device: torch.device) -> Any:
    """Return a fresh metric like the one given, for batches on ``device``."""
    if isinstance(metric, PerClass):
        made = copied(metric.metric, device)
        vars(made)["names of classes"] = metric.class_names
        return made
    if isinstance(metric, str):
        metric = named_metric(metric)
    if _is_ignite(metric):
        return _OnAnEngine(deep_copy("a metric", metric, "give it a __deepcopy__."))
    taught = None if _is_torchmetrics(metric) else library_of(metric)
    if taught is not None:
        return _OfALibrary(taught(deep_copy("a metric", metric, "give it a __deepcopy__.")), device)
    if hasattr(metric, "update"):
        metric = deep_copy("a metric", metric, "give it a __deepcopy__.")
        metric.to(device).reset()
        for one in metric.modules():
            if hasattr(type(one), "persistent"):
                one.persistent(mode=True)
        return metric
    return _Averaged(metric)


def over_epochs(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the extremes of MinMaxMetrics and the counts of Running metrics, by stage and metric."""
    found = {
        stage: {name: _extremes(metric) for name, metric in by_name.items() if _extremes(metric)}
        for stage, by_name in metrics.items()
    }
    return {stage: by_name for stage, by_name in found.items() if by_name}


def _extremes(metric: Any) -> dict[str, Any]:
    return {
        f"{path}:{kept}": copy.copy(one.__dict__[kept])
        for path, one in (metric.named_modules() if isinstance(metric, torch.nn.Module) else ())
        for kept in ("min_val", "max_val", "_num_vals_seen")
        if kept in one.__dict__
    }


def put_back(metrics: Mapping[str, Any], kept: Mapping[str, Mapping[str, Any]]) -> None:
    """Bring back what ``over_epochs`` returned of a stage."""
    for name, values in kept.items():
        there = _extremes(metrics.get(name))
        for full, value in values.items():
            path, _, attribute = full.partition(":")
            if full in there:
                setattr(metrics[name].get_submodule(path), attribute, value)


def _sum(values: list[Any]) -> tuple[Tensor, int]:
    """Return Σ(value·n), in float32 in the order of the batches, and Σn."""
    total = torch.zeros((), dtype=torch.float32, device=values[0][0].device)
    for value, size, *before in values:
        total = total + (value if before else value * size)  # a sum of an earlier run is added unchanged
    return total, sum(size for _, size, *_ in values)


def sums(measured: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an epoch has measured so far, in the form of a checkpoint."""
    nothing = {"total": None, "weight": 0}
    sums = {
        name: dict(zip(("total", "weight"), _sum(values), strict=True)) for name, values in measured.items() if values
    }
    return {
        "loss": sums.pop("loss", nothing),
        "logged": sums,
        "metrics": {name: dict(metric.state_dict()) for name, metric in metrics.items()},
        "updated": any(name.startswith("fed ") for name in measured),
    }


def from_sums(state: Mapping[str, Any], metrics: Mapping[str, Any], device: torch.device) -> dict[str, list[Any]]:
    """Return what an earlier run had measured of the epoch, and bring the metrics there."""
    for name, metric in metrics.items():
        metric.load_state_dict(to_device(state["metrics"][name], device))
    sums = {"loss": state["loss"], **state["logged"]}
    measured = {name: [(one["total"], one["weight"], "before")] for name, one in sums.items() if one["weight"]}
    return measured | ({f"fed {name}": [] for name in metrics} if state["updated"] else {})


def _curve(kind: str, value: tuple[Any, ...], names: tuple[str, ...] | None) -> Table:
    """Return the tensors of a curve: one per part, or one per part and class."""
    parts = ("fpr", "tpr", "thresholds") if kind.endswith("ROC") else ("precision", "recall", "thresholds")
    tensors = {}
    for part, one in zip(parts, value, strict=True):
        if isinstance(one, Tensor):
            tensors[f"_{part}"] = one
        else:
            tensors |= {f"_{part}_{names[at] if names else at}": each for at, each in enumerate(one)}
    return Table(tensors, Shape(names, parts))


def results(
    prefix: str, averages: Mapping[str, Any], metrics: Mapping[str, Any], size: int, tables: dict[str, Table]
) -> dict[str, float]:
    """Return what a stage measured on all processes, under full names; put what is not one number into ``tables``."""
    totals = {name: _sum(values) for name, values in averages.items() if values}
    functions = {name: metric for name, metric in metrics.items() if isinstance(metric, _Averaged)}
    totals |= {f"fed {name}": _sum(metric.values) for name, metric in functions.items() if metric.values}
    fed = {name for name in averages if name.startswith("fed ")}
    if size > 1:
        totals, fed = sums_of_all(totals), {name for names in everybodys(fed) for name in names}
    if totals and all(weight == 0 and total == 0 for total, weight in totals.values()):
        raise SpecError(f"each batch of {prefix!r} has 0 samples by its count.")
    found = {name: total / weight for name, (total, weight) in totals.items() if not name.startswith("fed ")}
    for name, metric in metrics.items():
        if f"fed {name}" in fed:
            total, weight = totals.get(f"fed {name}", (None, 0))
            value = metric.compute() if total is None else total / weight
            names = vars(metric).get("names of classes")
            kind = type(metric).__name__
            found |= _flat(name, value, names)
            tables |= {f"{prefix}/{full}": table for full, table in _tables(name, value, names, kind).items()}
    return {name if "/" in name else f"{prefix}/{name}": float(value) for name, value in found.items()}


def _flat(name: str, value: Any, names: tuple[str, ...] | None) -> dict[str, Any]:
    """Return the numbers in a metric's value, by name."""
    if isinstance(value, dict):
        return {full: item for key, one in value.items() for full, item in _flat(f"{name}_{key}", one, names).items()}
    if isinstance(value, tuple) or (isinstance(value, Tensor) and value.ndim > 1 and value.numel() > 1):
        return {}
    if isinstance(value, Tensor) and value.ndim == 1 and len(value) > 1:
        return {f"{name}_{names[at] if names else at}": item for at, item in enumerate(value)}
    return {name: value}


def _tables(name: str, value: Any, names: tuple[str, ...] | None, kind: str) -> dict[str, Table]:
    """Return the matrices and curves in a metric's value, by name."""
    if isinstance(value, dict):
        found = [_tables(f"{name}_{key}", one, names, kind) for key, one in value.items()]
        return {full: table for one in found for full, table in one.items()}
    if isinstance(value, tuple):
        return {name: _curve(kind, value, names)}
    if isinstance(value, Tensor) and value.ndim > 1 and value.numel() > 1:
        return {name: Table({"": value.clone()}, Shape(names))}
    return {}
