"""``explain()``: how options map to a backend, from the translation tables."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from unitrain.backends.features import REQUESTS
from unitrain.config import TrainerConfig
from unitrain.metrics.class_names import unwrapped
from unitrain.reports.html.notebook import summary
from unitrain.utilities.columns import in_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.backends.protocol import Adapter
    from unitrain.spec import TrainSpec

_HEADINGS = ("what", "given", "on the backend", "in unitrain, and why")


class Row(NamedTuple):
    """One line of an explanation.

    Attributes:
        what: The option, or the part of the spec.
        given: The given value.
        native: The backend's part; empty if it has none.
        shared: unitrain's part; empty if the backend does everything.
    """

    what: str
    given: str
    native: str
    shared: str


class Explanation(tuple[Row, ...]):
    """The rows of ``UnifiedTrainer.explain``; ``str`` of it is a table of at most 100 columns."""

    __slots__ = ()

    def __str__(self) -> str:
        lines = in_columns([_HEADINGS, *self])
        lines.insert(1, "─" * max(map(len, lines)))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """For notebooks: the table."""
        return summary(f"{len(self)} options and parts of the spec", _HEADINGS, self)

    def __repr__(self) -> str:
        return f"<Explanation of {len(self)} rows; print() shows them>"


def explain(adapter: Adapter, config: TrainerConfig, spec: TrainSpec | None, *, everything: bool) -> Explanation:
    """Return how ``adapter`` implements ``config`` and ``spec``.

    Args:
        adapter: The backend.
        config: The trainer's arguments.
        spec: What to train; if None, only the arguments are explained.
        everything: Whether to explain options at their defaults too.
    """
    rows = [row for row in _options(adapter, config) if everything or config.changed(row.what)]
    if spec is not None:
        rows += _spec(adapter, spec)
    return Explanation(rows)


def _options(adapter: Adapter, config: TrainerConfig) -> Iterator[Row]:
    for field in fields(TrainerConfig):
        given = _short(getattr(config, field.name))
        request = REQUESTS.get(field.name)
        if request is not None and request.feature not in adapter.features:
            yield Row(field.name, given, "", f"raises for other values: {request.feature.value}")
        else:
            yield Row(field.name, given, *adapter.options[field.name])


def _spec(adapter: Adapter, spec: TrainSpec) -> Iterator[Row]:
    def hook(event: str) -> str:
        return adapter.events[event]  # type: ignore[index]

    step = "unitrain.loop.step: one step for both backends"
    yield Row("model", type(spec.model).__name__, hook("batch_start"), step)
    yield Row("loss", _short(spec.loss), hook("batch_start"), step)
    yield Row("optimizer", _short(spec.optimizer), hook("optimizer_step"), step)
    if spec.lr_scheduler is not None:
        rule = (
            "unitrain.optim.schedules: frequency counts optimizer steps; a plateau is stepped before files are written"
        )
        yield Row("lr_scheduler", _short(spec.lr_scheduler), "", rule)
    for name, metric in (spec.metrics or {}).items():
        why = "unitrain.metrics.metric: updated in the step, computed once per epoch"
        yield Row(f"metrics[{name!r}]", type(unwrapped(metric)).__name__, hook("epoch_end"), why)
    for callback in spec.callbacks:
        native = adapter.accepts_callback(callback)
        yield Row(
            "callback",
            type(callback).__name__,
            "as it is" if native else "",
            "" if native else "unitrain.run.hub: the hub",
        )


def _short(value: Any) -> str:
    shown = f"[{', '.join(type(one).__name__ for one in value)}]" if isinstance(value, tuple) and value else repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."  # noqa: PLR2004 - a column's width
