"""Writes the pages of the reference: every public name, in groups."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, NamedTuple

import unitrain
from docs._ext.pages import write
from unitrain.run.events import WHEN
from unitrain.run.hub import Event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Group(NamedTuple):
    """A page of the reference.

    Attributes:
        title: Its title.
        about: What the names are for, as reStructuredText.
        names: Names of ``unitrain``, in the order of the page.
    """

    title: str
    about: str
    names: Sequence[str]


GROUPS = {
    "trainer": Group(
        "The trainer",
        ":doc:`../reference` has all options as one table, and :doc:`../training` explains how they behave.",
        ("UnifiedTrainer", "TrainerConfig", "FitResult"),
    ),
    "spec": Group(
        "What to train",
        "A spec holds the model and all that training it needs; nothing in it belongs to a framework.",
        ("TrainSpec", "LRSchedule", "metric", "per_class", "seed_everything"),
    ),
    "data": Group(
        "Data",
        "Every loader argument takes a ``DataLoader``, a list of batches or any iterable of batches.",
        ("DataSpec", "CombinedLoader", "vectorized", "ShardedBatches", "OwnBatches"),
    ),
    "events": Group(
        "Events and handlers",
        ":doc:`../reference` says when each event is fired, and in which order handlers run.",
        ("Event", "CustomEvent", "RunContext", "RunState"),
    ),
    "callbacks": Group(
        "Callbacks",
        "Pass them as ``UnifiedTrainer(callbacks=[...])`` or ``TrainSpec(callbacks=[...])``.",
        (
            "Callback",
            "DeviceStats",
            "EMA",
            "EarlyStopping",
            "EmptyCache",
            "Freeze",
            "GradientAccumulationSchedule",
            "LRMonitor",
            "ModelCheckpoint",
            "ModelSummary",
            "PredictionWriter",
            "ProgressBar",
            "StochasticWeightAveraging",
            "TerminateOnNaN",
            "Timer",
            "Unfreeze",
        ),
    ),
    "trackers": Group(
        "Trackers",
        "Pass them as ``UnifiedTrainer(loggers=[...])``. :doc:`../monitoring` is about live values.",
        (
            "CSVLogger",
            "MLflowLogger",
            "MetricsClient",
            "OTLPLogger",
            "PrometheusLogger",
            "StatsDLogger",
            "TensorBoardLogger",
            "WandbLogger",
        ),
    ),
    "checkpoints": Group(
        "Checkpoints",
        "See :doc:`../checkpoints`; :class:`~unitrain.ModelCheckpoint` writes them.",
        ("load_weights", "convert_checkpoint"),
    ),
    "processes": Group("Several processes", "See :doc:`../distributed`.", ("DDP", "FSDP")),
    "tools": Group(
        "Tools before a run",
        "They find a learning rate and a batch size, and show the layers of a model.",
        ("LRFinder", "BatchSizeFinder", "summarize", "Summary"),
    ),
    "compare": Group("Comparing trainings", "See :doc:`../compare`.", ("compare", "Comparison")),
    "tuning": Group("Tuning", "See :doc:`../tuning`.", ("tune", "TuneResult", "Pruning")),
    "serving": Group(
        "Export and serving",
        "See :doc:`../export` and :doc:`../serving`.",
        ("export_module", "ExportReport", "InferenceEngine", "serve"),
    ),
    "deployment": Group(
        "Deployment",
        "See :doc:`../deployment`.",
        ("bundle", "deploy", "undeploy", "Deployment", "CloudModel"),
    ),
    "programs": Group(
        "Programs of Ignite",
        "A LightningModule is passed to ``fit`` as it is. See :doc:`../migration`.",
        ("from_engine", "from_step"),
    ),
    "errors": Group(
        "Errors",
        "Each has a hint that says how to fix it.",
        (
            "UnitrainError",
            "BackendNotInstalledError",
            "CheckpointError",
            "ConfigError",
            "DataError",
            "DeployError",
            "DistributedError",
            "ExportError",
            "SpecError",
            "UnsupportedFeatureError",
            "VersionError",
            "__version__",
        ),
    ),
}
"""The pages, in the order of the navigation. Each name of ``unitrain.__all__`` is on one of them."""

MADE_BY_UNITRAIN = {
    "Comparison",
    "Deployment",
    "ExportReport",
    "FitResult",
    "RunContext",
    "RunState",
    "Summary",
    "TuneResult",
}
"""Classes that users read and do not create, so that their arguments are nobody's business."""

METHODS = {
    "CombinedLoader": (),
    "CustomEvent": (),
    "EMA": ("copy_to",),
    "ModelCheckpoint": ("best_model_path", "best_model_score"),
    "Pruning": (),
    "TrainSpec": (),
    "TrainerConfig": (),
    **dict.fromkeys(GROUPS["trackers"].names, ()),
    **{name: () for name in GROUPS["callbacks"].names if name not in {"Callback", "EMA", "ModelCheckpoint"}},
}
"""What users call of a class, where that is not all of it: the rest is what a run calls."""

HIDDEN = {"RunContext": ("batch_values", "name_of", "write_saves")}
"""Methods that only unitrain calls, of classes with all others."""


def directive(name: str) -> str:
    """Return the Sphinx directive that documents a public name."""
    thing = getattr(unitrain, name)
    if not callable(thing):
        return f".. py:data:: unitrain.{name}\n   :type: {type(thing).__name__}\n\n   The version of unitrain.\n"
    if not inspect.isclass(thing):
        return f".. autofunction:: unitrain.{name}\n"
    if issubclass(thing, BaseException):
        return f".. autoexception:: unitrain.{name}\n   :show-inheritance:\n"
    head = f".. autoclass:: unitrain.{name}\n"
    if issubclass(thing, Event):
        return head + "".join(f"\n   .. py:attribute:: {event.name}\n\n      {WHEN[event]}\n" for event in thing)
    if name in METHODS:
        shown = ", ".join(METHODS[name])
        return head + (f"   :members: {shown}\n" if shown else "")
    hidden = ", ".join(HIDDEN.get(name, ()))
    return head + "   :members:\n   :inherited-members:\n" + (f"   :exclude-members: {hidden}\n" if hidden else "")


def text(group: Group) -> str:
    """Return a page."""
    return "\n".join([group.title, "=" * len(group.title), "", group.about, "", *map(directive, group.names)])


def copy(target: Path) -> list[str]:
    """Write all pages to ``target``, and return their names.

    Raises:
        LookupError: If a public name is on no page, or on two.
    """
    placed = [name for group in GROUPS.values() for name in group.names]
    wrong = sorted({name for name in [*placed, *unitrain.__all__] if placed.count(name) != 1})
    wrong += sorted(set(placed) - set(unitrain.__all__))
    if wrong:
        raise LookupError(f"docs/_ext/reference.py: each public name belongs to one group; look at {', '.join(wrong)}")
    for name, group in GROUPS.items():
        write(target / "reference" / f"{name}.rst", text(group))
    return [f"reference/{name}" for name in GROUPS]
