"""Names that newer releases of Lightning moved, renamed or removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, Severity, person
from unitrain_lightning.fixers.names import short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

MOVED = Rule("lightning-moved", "names that moved are imported from their new place")
GONE = Rule("lightning-gone", "names that were removed are reported", Severity.PERSON)
METRICS = Rule("lightning-metrics", "pytorch_lightning.metrics became torchmetrics", Severity.PERSON)
BAR = Rule(
    "lightning-progress-bar",
    "callbacks.progress.ProgressBar, which is the base class today and shows nothing, becomes TQDMProgressBar",
    Severity.BEHAVIOUR,
)
CLI = Rule("lightning-cli", "LightningCLI creates its own Trainer and only runs on Lightning", Severity.PERSON)

_BAR = "callbacks.progress.ProgressBar"
_MOVED = {
    "core.lightning.LightningModule": "LightningModule",
    "root_module.root_module.LightningModule": "LightningModule",
    "callbacks.base.Callback": "callbacks.Callback",
    _BAR: "callbacks.TQDMProgressBar",
    "callbacks.progress.base.ProgressBarBase": "callbacks.ProgressBar",
    "callbacks.pt_callbacks.EarlyStopping": "callbacks.EarlyStopping",
    "callbacks.pt_callbacks.ModelCheckpoint": "callbacks.ModelCheckpoint",
    "callbacks.LearningRateLogger": "callbacks.LearningRateMonitor",
    "callbacks.lr_logger.LearningRateLogger": "callbacks.LearningRateMonitor",
    "callbacks.lr_monitor.LearningRateLogger": "callbacks.LearningRateMonitor",
    "loggers.base.LightningLoggerBase": "loggers.logger.Logger",
    "loggers.base.rank_zero_experiment": "loggers.logger.rank_zero_experiment",
    "loggers.LightningLoggerBase": "loggers.Logger",
    "logging.TensorBoardLogger": "loggers.TensorBoardLogger",
    "logging.CometLogger": "loggers.CometLogger",
    "logging.MLFlowLogger": "loggers.MLFlowLogger",
    "utilities.seed.seed_everything": "seed_everything",
    "trainer.seed_everything": "seed_everything",
    "utilities.distributed.rank_zero_only": "utilities.rank_zero_only",
    "utilities.distributed.rank_zero_info": "utilities.rank_zero_info",
    "utilities.distributed.rank_zero_warn": "utilities.rank_zero_warn",
    "profiler.SimpleProfiler": "profilers.SimpleProfiler",
    "profiler.AdvancedProfiler": "profilers.AdvancedProfiler",
    "profiler.PyTorchProfiler": "profilers.PyTorchProfiler",
    "profiler.Profiler": "profilers.Profiler",
    "plugins.DDPPlugin": "strategies.DDPStrategy",
    "plugins.training_type.DDPPlugin": "strategies.DDPStrategy",
}
_RESULTS = dict.fromkeys(("TrainResult", "EvalResult"), "return the loss, and self.log(...) the rest")
_GONE = {
    **_RESULTS,
    **{f"core.step_result.{one}": fix for one, fix in _RESULTS.items()},
    "callbacks.GPUStatsMonitor": "callbacks.DeviceStatsMonitor()",
    "callbacks.XLAStatsMonitor": "callbacks.DeviceStatsMonitor()",
    "loggers.TestTubeLogger": "loggers.TensorBoardLogger(save_dir, name=...)",
    "logging.TestTubeLogger": "loggers.TensorBoardLogger(save_dir, name=...)",
    "lite.LightningLite": "lightning.fabric.Fabric",
    "plugins.DDPSequentialPlugin": "strategies.FSDPStrategy",
    "plugins.DDPShardedPlugin": "strategies.FSDPStrategy",
    "plugins.RPCSequentialPlugin": "strategies.FSDPStrategy",
    "plugins.training_type.rpc_sequential.RPCSequentialPlugin": "strategies.FSDPStrategy",
    "plugins.DDP2Plugin": "strategies.DDPStrategy",
    "plugins.DataParallelPlugin": "strategies.DDPStrategy",
    "plugins.DDPSpawnPlugin": 'strategies.DDPStrategy(start_method="spawn")',
}
_EXACT = {
    "Metric": "Metric",
    "MeanSquaredError": "MeanSquaredError",
    "MeanAbsoluteError": "MeanAbsoluteError",
    "MeanSquaredLogError": "MeanSquaredLogError",
    "ExplainedVariance": "ExplainedVariance",
    "MetricCollection": "MetricCollection",
}
"""Metrics with the same arguments and values in torchmetrics."""

CLI_NAMES = {"utilities.cli.LightningCLI", "cli.LightningCLI"}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find old names where they are imported, and where they are written in full."""
    del goal
    for node in source.all(cst.ImportFrom):
        yield from _imported(source, node)
    for written in source.all(cst.Attribute):
        yield from _written(source, written)


def _imported(source: Source, node: cst.ImportFrom) -> Iterator[Finding]:
    if node.module is None or node.relative or isinstance(node.names, cst.ImportStar):
        return
    module = source.code(node.module)
    for alias in node.names:
        full = f"{module}.{alias.evaluated_name}"
        yield from _told(source.start(alias), full)
        new = _new_home(full)
        if new:
            rule, edits = _rule(full), _moved_import(source, node, alias, new)
            reason = _reason(full, new)
            if edits:
                yield Finding(rule.name, source.start(alias), reason, new, tuple(edits), needed=rule is MOVED)
            else:
                yield person(rule.name, source.start(alias), reason, f"import {new} by hand")


def _told(start: int, full: str) -> Iterator[Finding]:
    name = short(full)
    if name in _GONE:
        yield person(GONE.name, start, f"{full} was removed", _GONE[name])
    elif name.startswith("metrics.") and name.rpartition(".")[2] not in _EXACT:
        reason = f"{full} became torchmetrics, with other arguments"
        yield person(METRICS.name, start, reason, f"torchmetrics.{name.rpartition('.')[2]}, with its task")
    elif name == "metrics":
        yield person(METRICS.name, start, "pytorch_lightning.metrics became torchmetrics", "import torchmetrics")
    elif name in CLI_NAMES:
        reason = "LightningCLI creates the Trainer itself and only runs on Lightning"
        yield person(CLI.name, start, reason, "run it unchanged, or create UnifiedTrainer(...) from parsed arguments")


def _new_home(full: str) -> str:
    """Return the current dotted name for an old one; empty if it is not old."""
    name = short(full)
    last = name.rpartition(".")[2]
    if name.startswith("metrics.") and last in _EXACT:
        return f"torchmetrics.{_EXACT[last]}"
    if name not in _MOVED:
        return ""
    return f"{full[: -len(name)]}{_MOVED[name]}"


def _rule(full: str) -> Rule:
    return BAR if short(full) == _BAR else MOVED


def _reason(full: str, new: str) -> str:
    return f"{full} is the base class today, which shows nothing" if _rule(full) is BAR else f"{full} is {new} now"


def _moved_import(source: Source, node: cst.ImportFrom, alias: cst.ImportAlias, new: str) -> list[Edit]:
    """Return the edits that import one name from its new home, under the name that the file uses."""
    assert node.module is not None and not isinstance(node.names, cst.ImportStar)  # noqa: S101, PT018 - types
    home, _, name = new.rpartition(".")
    used = alias.evaluated_alias or alias.evaluated_name
    line = f"from {home} import {name}" + (f" as {used}" if used != name else "")
    if len(node.names) == 1:
        return [Edit(source.start(node), source.end(node), line)]
    index = list(node.names).index(alias)
    if index + 1 < len(node.names):
        gone = Edit(source.start(alias), source.start(node.names[index + 1]), "")
    else:
        gone = Edit(source.end(node.names[index - 1]), source.end(alias), "")
    if "#" in source.between(gone.start, gone.end):
        return []
    place = source.start(node)
    return [Edit(place, place, f"{line}\n{source.indent(place)}"), gone]


def _written(source: Source, node: cst.Attribute) -> Iterator[Finding]:
    around = source.parent(node)
    if isinstance(around, cst.Attribute) and around.value is node:
        inner = short(source.name(around))
        if inner:
            return  # the whole name is looked at
    if source.around(node, cst.ImportFrom, cst.Import) is not None:
        return
    full = source.name(node)
    written = source.code(node)
    if not short(full) or full.rpartition(".")[2] != node.attr.value:
        return
    yield from _told(source.start(node), full)
    new, name = _new_home(full), short(full)
    if not new:
        return
    rule = METRICS if new.startswith("torchmetrics") else _rule(full)
    prefix = written.removesuffix(name)
    reached = prefix or (name in _MOVED and _MOVED[name].partition(".")[0] == name.partition(".")[0])
    if rule is not METRICS and prefix != written and reached:
        edit = Edit(source.start(node), source.end(node), prefix + _MOVED[name])
        reason = _reason(full, new)
        yield Finding(rule.name, source.start(node), reason, new, (edit,), needed=rule is MOVED)
    else:
        yield person(rule.name, source.start(node), f"{full} is {new} now", f"import {new}")


FIXER = Fixer((MOVED, BAR, GONE, METRICS, CLI), find)
