"""What was in ``optuna.integration`` is the package optuna-integration now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, Severity, person
from unitrain.migrate.optuna.redis_storages import NAME as REDIS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

MOVED = Rule("optuna-integration", "names of optuna.integration are imported from optuna_integration")
GONE = Rule("optuna-gone", "names that left optuna.integration for good are reported", Severity.PERSON)
CALLBACK = Rule("optuna-lightning", "a pruning callback not for pytorch_lightning is reported", Severity.PERSON)

_OLD, _NEW = "optuna.integration", "optuna_integration"
_REASON = f"{_OLD} is deprecated since Optuna 4.9 and goes in Optuna 6"
_NAMES: Final = {
    "botorch": ("BoTorchSampler",),
    "catboost": ("CatBoostPruningCallback",),
    "cma": ("PyCmaSampler",),
    "dask": ("DaskStorage",),
    "fastaiv2": ("FastAIV2PruningCallback", "FastAIPruningCallback"),
    "keras": ("KerasPruningCallback",),
    "lightgbm": ("LightGBMPruningCallback", "LightGBMTuner", "LightGBMTunerCV"),
    "mlflow": ("MLflowCallback",),
    "pytorch_distributed": ("TorchDistributedTrial",),
    "pytorch_ignite": ("PyTorchIgnitePruningHandler",),
    "pytorch_lightning": ("PyTorchLightningPruningCallback",),
    "shap": ("ShapleyImportanceEvaluator",),
    "sklearn": ("OptunaSearchCV",),
    "skorch": ("SkorchPruningCallback",),
    "tensorboard": ("TensorBoardCallback",),
    "tensorflow": ("TensorFlowPruningHook",),
    "tfkeras": ("TFKerasPruningCallback",),
    "wandb": ("WeightsAndBiasesCallback",),
    "xgboost": ("XGBoostPruningCallback",),
}
"""The modules of optuna-integration, and what a script imports from them."""
_PUBLIC: Final = frozenset({*_NAMES, *(name for names in _NAMES.values() for name in names)})
_LIGHTNING: Final = "PyTorchLightningPruningCallback"


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the old package where names are imported from it, and where it is written in full."""
    del goal
    for node in source.all(cst.ImportFrom):
        if node.module is not None and not node.relative:
            yield from _imported(source, node, source.code(node.module))
    for written in source.all(cst.Attribute):
        yield from _written(source, written)


def _imported(source: Source, node: cst.ImportFrom, module: str) -> Iterator[Finding]:
    inner = module.removeprefix(_OLD).removeprefix(".")
    if module != _OLD and not module.startswith(f"{_OLD}."):
        return
    assert node.module is not None  # noqa: S101 - for the type checker
    start = source.start(node)
    names = [] if isinstance(node.names, cst.ImportStar) else [one.evaluated_name for one in node.names]
    if REDIS in names:
        return  # another fixer's, which takes it out
    known = _NAMES.get(inner.partition(".")[0]) if inner else _PUBLIC
    gone = [name for name in names if name not in (known or ())]
    if isinstance(node.names, cst.ImportStar):
        yield person(MOVED.name, start, _REASON, f"from {_NEW} import ..., with the names that are used")
    elif gone:
        yield _gone(start, gone[0])
    else:
        edit = Edit(source.start(node.module), source.end(node.module), module.replace(_OLD, _NEW, 1))
        yield Finding(MOVED.name, start, _REASON, f"from {edit.text} import {', '.join(names)}", (edit,))


def _gone(start: int, name: str) -> Finding:
    fix = f"see {_NEW}, and unitrain.Pruning for pruning in any fit"
    return person(GONE.name, start, f"{_OLD}.{name} is not in optuna-integration", fix)


def _written(source: Source, node: cst.Attribute) -> Iterator[Finding]:
    """Find ``optuna.integration.Name``, after whatever import."""
    full, name = source.name(node), node.attr.value
    inner = full.removeprefix(f"{_OLD}.").split(".")
    whole = len(inner) == 1 or (len(inner) == 2 and inner[0] in _NAMES)  # noqa: PLR2004 - a module, and a name in it
    if not full.startswith(f"{_OLD}.") or not whole or inner[-1] != name or name in (*_NAMES, REDIS):
        return
    if source.around(node, cst.ImportFrom, cst.Import) is not None:
        return
    start = source.start(node)
    if name not in _PUBLIC:
        yield _gone(start, name)
        return
    edit = Edit(start, source.end(node), name)
    yield Finding(MOVED.name, start, _REASON, f"from {_NEW} import {name}", (edit,), (f"{_NEW}:{name}",))


def find_callbacks(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the callback for ``lightning.pytorch`` in a script of ``pytorch_lightning``, whose Trainer refuses it."""
    del goal
    if not source.imports("pytorch_lightning") or source.imports("lightning"):
        return
    for call in source.all(cst.Call):
        if source.name(call.func).rpartition(".")[2] == _LIGHTNING:
            reason = f"{_LIGHTNING} is a callback of lightning.pytorch; this script is of pytorch_lightning"
            fix = 'unitrain.Pruning(trial, "val/loss") in a UnifiedTrainer, or `import lightning.pytorch as pl`'
            yield person(CALLBACK.name, source.start(call), reason, fix)


FIXER = Fixer((MOVED, GONE), find)
CALLBACK_FIXER = Fixer((CALLBACK,), find_callbacks)
