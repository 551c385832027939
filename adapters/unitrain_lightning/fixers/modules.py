"""What modules may not do any more: set ``self.hparams``, give old arguments to ``self.log``, read old attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.migrate.arguments import arguments, dropped
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain.migrate.variables import held_by, uses
from unitrain_lightning.fixers.names import TRAINER, calls, is_callback, is_data, is_module, parameters, short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

HPARAMS = Rule("lightning-hparams", "self.hparams = hparams becomes self.save_hyperparameters(hparams)")
LOG = Rule("lightning-log", "arguments that self.log does not take any more are dropped")
ATTRIBUTES = Rule("lightning-attributes", "attributes of the Trainer and the module that were renamed or removed")

_LOG_GONE = {"tbptt_reduce_fx", "tbptt_pad_token"}
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
"""Attributes of the Trainer; an empty name means that a person has to choose."""

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
    """Find them in the classes of the file, and at its Trainers."""
    del goal
    for owner in source.all(cst.ClassDef):
        module, data = is_module(source, owner), is_data(source, owner)
        if module or data:
            yield from _hparams(source, owner)
        if module:
            yield from _logged(source, owner)
            yield from _own(source, owner)
        for node in source.all(cst.Attribute, owner):
            if _is_trainer(source, owner, node.value, inside=module or data):
                yield from _attribute(source, node)
    yield from _held(source)


def _held(source: Source) -> Iterator[Finding]:
    seen = set()
    for call in calls(source, TRAINER):
        variable = held_by(source, call)
        if variable is None or variable.key in seen:
            continue
        seen.add(variable.key)
        for use in uses(source, variable):
            around = source.parent(use)
            if isinstance(around, cst.Attribute) and around.value is use:
                yield from _attribute(source, around)


def _hparams(source: Source, owner: cst.ClassDef) -> Iterator[Finding]:
    for one in source.all(cst.Assign, owner):
        if len(one.targets) != 1 or source.code(one.targets[0].target) != "self.hparams":
            continue
        value = source.code(one.value)
        new = f"self.save_hyperparameters({value})"
        reason = "hparams cannot be set since 1.3"
        edit = Edit(source.start(one), source.end(one), new)
        yield Finding(HPARAMS.name, source.start(one), reason, new, (edit,), needed=True)


def _logged(source: Source, owner: cst.ClassDef) -> Iterator[Finding]:
    for call in source.all(cst.Call, owner):
        if source.code(call.func) not in ("self.log", "self.log_dict"):
            continue
        for given in arguments(source, call):
            reason = f"self.log does not take {given.keyword}= any more"
            if given.keyword in _LOG_GONE or (given.keyword == "sync_dist_op" and given.value in (None, "mean")):
                edits = (dropped(source, call, given),)
                yield Finding(LOG.name, source.start(given.node), reason, "left out", edits, needed=True)
            elif given.keyword == "sync_dist_op":
                yield person(LOG.name, source.start(given.node), reason, "reduce_fx=")


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
    if new:
        edit = Edit(source.start(node.attr), source.end(node.attr), new)
        yield Finding(ATTRIBUTES.name, start, reason, f"trainer.{new}", (edit,), needed=True)
    elif old == "get_model" and isinstance(call := source.parent(node), cst.Call) and not call.args:
        edit = Edit(source.start(node.attr), source.end(call), "lightning_module")
        yield Finding(ATTRIBUTES.name, start, reason, "trainer.lightning_module", (edit,), needed=True)
    else:
        yield person(ATTRIBUTES.name, start, reason, "by hand: the upgrade guide of Lightning 2.0 names what to use")


RESUME = Rule("lightning-resume", "resume_from_checkpoint= becomes fit(ckpt_path=)")


def find_resume(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find ``Trainer(resume_from_checkpoint=)``, and hand it to the fits of that Trainer."""
    del goal
    for call in calls(source, TRAINER):
        for given in arguments(source, call):
            if given.keyword == "resume_from_checkpoint":
                yield _resumed(source, call, given.index)


def _resumed(source: Source, call: cst.Call, index: int) -> Finding:
    given = arguments(source, call)[index]
    start, reason = source.start(given.node), "resume_from_checkpoint= was removed in 2.0"
    drop = dropped(source, call, given)
    if given.value is None:
        return Finding(RESUME.name, start, reason, "left out", (drop,), needed=True)
    fits = _fits(source, call)
    same = all(source.around(fit, cst.FunctionDef) is source.around(call, cst.FunctionDef) for fit in fits)
    named = any(one.keyword == "ckpt_path" for fit in fits for one in arguments(source, fit))
    if not fits or not same or named:
        return person(RESUME.name, start, reason, f"trainer.fit(..., ckpt_path={given.text})")
    edits = [drop]
    for fit in fits:
        place = source.end(fit.args[-1]) if fit.args else source.end(fit) - 1
        edits.append(Edit(place, place, f"{', ' if fit.args else ''}ckpt_path={given.text}"))
    return Finding(RESUME.name, start, reason, f"fit(ckpt_path={given.text})", tuple(edits), needed=True)


def _fits(source: Source, call: cst.Call) -> list[cst.Call]:
    """Return the calls of ``fit`` on the Trainer that a call makes."""
    variable = held_by(source, call)
    found = []
    for use in [call] if variable is None else uses(source, variable):
        method = source.parent(use)
        around = source.parent(method)
        if isinstance(method, cst.Attribute) and method.attr.value == "fit" and isinstance(around, cst.Call):
            found.append(around)
    return found


ARGPARSE = Rule("lightning-argparse", "Trainer.add_argparse_args and from_argparse_args were removed, by hand")
_HELPERS = {f"{trainer}.{name}" for trainer in TRAINER for name in ("add_argparse_args", "from_argparse_args")}


def find_argparse(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the helpers that put the Trainer's arguments into a parser."""
    del goal
    for node in source.all(cst.Attribute):
        if short(source.name(node)) in _HELPERS:
            name = node.attr.value
            mend = "parser.add_argument for each argument you use, then UnifiedTrainer(max_epochs=args.max_epochs, ...)"
            yield person(ARGPARSE.name, source.start(node), f"Trainer.{name} was removed in 2.0", mend)


FIXER = Fixer((HPARAMS, LOG, ATTRIBUTES), find)
RESUME_FIXER = Fixer((RESUME,), find_resume)
ARGPARSE_FIXER = Fixer((ARGPARSE,), find_argparse)
