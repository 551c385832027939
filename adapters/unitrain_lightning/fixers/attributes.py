"""Attributes of the Trainer and of modules that newer releases of Lightning renamed or removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain.migrate.variables import held_by, uses
from unitrain_lightning.fixers.names import TRAINER, calls, is_callback, is_data, is_module, parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

ATTRIBUTES = Rule("lightning-attributes", "attributes of the Trainer and the module that were renamed or removed")

_RENAMED = {
    "running_sanity_check": "sanity_checking",
    "training_type_plugin": "strategy",
    "progress_bar_dict": "progress_bar_metrics",
    "data_parallel_device_ids": "device_ids",
    "proc_rank": "global_rank",
    "train_loop": "fit_loop",
    "num_gpus": "num_devices",
    "num_processes": "num_devices",
    "devices": "num_devices",
    "weights_save_path": "default_root_dir",
    "lr_schedulers": "lr_scheduler_configs",
    "call_hook": "",
    "disable_validation": "",
    "root_gpu": "",
    "use_amp": "",
    "tpu_cores": "",
    "gpus": "",
    "get_model": "",
    "tune": "",
    "tuner": "",
    "lightning_optimizers": "",
    "accelerator_connector": "",
    "batch_idx": "",
    "total_batch_idx": "",
    "run_evaluation": "",
    "logged_metrics_dict": "",
}
"""Trainer attributes; an empty replacement must be chosen by hand."""

_MODULE_GONE = {
    "datamodule": "self.trainer.datamodule",
    "get_progress_bar_dict": "ProgressBar.get_metrics",
    "get_tqdm_dict": "ProgressBar.get_metrics",
    "summarize": "pytorch_lightning.utilities.model_summary.summarize(self)",
    "use_amp": 'self.trainer.precision == "16-mixed"',
    "model_size": "pytorch_lightning.utilities.memory.get_model_size_mb(self)",
    "add_to_queue": "a strategy's own queue",
}


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find old attributes in the classes of the file, and at its Trainers."""
    del goal
    for owner in source.all(cst.ClassDef):
        if is_module(source, owner):
            yield from _own(source, owner)
    for node in trainer_attributes(source):
        yield from _attribute(source, node)


def trainer_attributes(source: Source) -> Iterator[cst.Attribute]:
    """Yield what is read off a Trainer: in modules and callbacks, and where the file makes one."""
    for owner in source.all(cst.ClassDef):
        inside = is_module(source, owner) or is_data(source, owner)
        for node in source.all(cst.Attribute, owner):
            if _is_trainer(source, owner, node.value, inside=inside):
                yield node
    seen = set()
    for call in calls(source, TRAINER):
        variable = held_by(source, call)
        if variable is None or variable.key in seen:
            continue
        seen.add(variable.key)
        for use in uses(source, variable):
            around = source.parent(use)
            if isinstance(around, cst.Attribute) and around.value is use:
                yield around


def _own(source: Source, owner: cst.ClassDef) -> Iterator[Finding]:
    """Find attributes that the module itself had."""
    assigned = {source.code(one.target) for one in source.all(cst.AssignTarget, owner)}
    methods = {one.name.value for one in source.all(cst.FunctionDef, owner)}
    for node in source.all(cst.Attribute, owner):
        name = node.attr.value
        if not isinstance(node.value, cst.Name) or node.value.value != "self" or name not in _MODULE_GONE:
            continue
        if f"self.{name}" not in assigned and name not in methods:
            yield person(ATTRIBUTES.name, source.start(node), f"self.{name} was removed", _MODULE_GONE[name])


def _is_trainer(source: Source, owner: cst.ClassDef, node: cst.BaseExpression, *, inside: bool) -> bool:
    """Return whether an expression within a class is the Trainer that runs it."""
    if inside:
        return isinstance(node, cst.Attribute) and source.code(node) == "self.trainer"
    function = source.around(node, cst.FunctionDef)
    if function is None or not isinstance(node, cst.Name) or not is_callback(source, owner):
        return False
    given = [one.name.value for one in parameters(function)]
    return given[1:2] == ["trainer"] and node.value == "trainer"


def _attribute(source: Source, node: cst.Attribute) -> Iterator[Finding]:
    old = node.attr.value
    new = _RENAMED.get(old)
    if new is None:
        return
    start, reason = source.start(node), f"trainer.{old} was removed"
    if _is_set(source, old):
        yield person(ATTRIBUTES.name, start, f"{reason}, but the file sets an attribute of this name", "by hand")
    elif new:
        edit = Edit(source.start(node.attr), source.end(node.attr), new)
        yield Finding(ATTRIBUTES.name, start, reason, f"trainer.{new}", (edit,), needed=True)
    elif old == "get_model" and isinstance(call := source.parent(node), cst.Call) and not call.args:
        edit = Edit(source.start(node.attr), source.end(call), "lightning_module")
        yield Finding(ATTRIBUTES.name, start, reason, "trainer.lightning_module", (edit,), needed=True)
    else:
        yield person(ATTRIBUTES.name, start, reason, "by hand, following the Lightning 2.0 upgrade guide")


def _is_set(source: Source, name: str) -> bool:
    """Return whether the file gives something a value by this name, so that reading it may not fail."""
    targets: list[cst.CSTNode] = [one.target for one in source.all(cst.AssignTarget)]
    targets += [one.target for one in source.all(cst.AnnAssign)]
    owners = (one.value for one in targets if isinstance(one, cst.Attribute) and one.attr.value == name)
    return any(source.code(owner).endswith("trainer") for owner in owners)


FIXER = Fixer((ATTRIBUTES,), find)
