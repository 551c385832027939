"""``Trainer.add_argparse_args`` and ``from_argparse_args``, which 2.0 removed: the options are written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from unitrain.config import TrainerConfig
from unitrain.migrate.arguments import arguments, literal
from unitrain.migrate.findings import Edit, Finding, Fixer, Goal, Rule, person
from unitrain_lightning.fixers.names import TRAINER, is_data, short
from unitrain_lightning.fixers.trainer_arguments import OLD_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unitrain.migrate.source import Source

RULE = Rule("lightning-argparse", "Trainer.add_argparse_args and from_argparse_args become the options themselves")

_HELPERS = frozenset(("add_argparse_args", "from_argparse_args"))
_ADD, _FROM = (
    frozenset(f"{trainer}.{name}" for trainer in TRAINER) for name in ("add_argparse_args", "from_argparse_args")
)
_NUMBER = 'type=lambda text: float(text) if "." in text else int(text), default=1.0'
_OPTIONS = {
    "accelerator": 'default="auto"',
    "devices": "type=int, default=1",
    "precision": 'default="32-true"',
    "max_epochs": "type=int",
    "max_steps": "type=int, default=-1",
    "gradient_clip_val": "type=float",
    "accumulate_grad_batches": "type=int, default=1",
    "limit_train_batches": _NUMBER,
    "limit_val_batches": _NUMBER,
    "limit_test_batches": _NUMBER,
    "val_check_interval": _NUMBER,
    "check_val_every_n_epoch": "type=int, default=1",
    "log_every_n_steps": "type=int, default=50",
    "default_root_dir": 'default="."',
    "deterministic": 'action="store_true"',
    "fast_dev_run": 'action="store_true"',
}
"""The generated options, with Lightning's defaults."""

_OLD_DEVICES, _REPLACED = {"gpus", "tpu_cores", "num_processes", "ipus"}, {"accelerator", "devices"}
_FOREIGN = {
    "barebones",
    "enable_checkpointing",
    "enable_model_summary",
    "inference_mode",
    "logger",
    "plugins",
    "profiler",
    "use_distributed_sampler",
}
_KNOWN = (set(TrainerConfig.__dataclass_fields__) - {"compile", "loggers", "native", "seed"}) | _FOREIGN | OLD_NAMES
_KNOWN |= {"accelerator", "strategy", "precision"}
_BY_HAND = "parser.add_argument for each argument you use, then UnifiedTrainer(max_epochs=args.max_epochs, ...)"


def find(source: Source, goal: Goal) -> Iterator[Finding]:
    """Find the helpers, and write out what they stand for: in all places of a file, or in none."""
    del goal
    yield from _data_helpers(source)
    helpers = [node for node in source.all(cst.Attribute) if short(source.name(node)) in _ADD | _FROM]
    if not helpers:
        return
    own = _own(source)
    offered = own | (set(_OPTIONS) if any(short(source.name(one)) in _ADD for one in helpers) else set())
    refused = _refusal(source, own, offered)
    found = [_helper(source, one, own, sorted(offered)) for one in helpers]
    for node, one in zip(helpers, found, strict=True):
        if refused or not all(found) or one is None:
            reason = f"Trainer.{node.attr.value} was removed in 2.0{refused and f'; {refused}'}"
            yield person(RULE.name, source.start(node), reason, _BY_HAND)
        else:
            yield one


def _data_helpers(source: Source) -> Iterator[Finding]:
    """Find the same helpers of LightningDataModule, unless the file writes them itself."""
    written = {one.name.value for one in source.all(cst.FunctionDef)}
    data = {one.name.value for one in source.all(cst.ClassDef) if is_data(source, one)}
    for node in source.all(cst.Attribute):
        owner, name = source.code(node.value), node.attr.value
        if name in _HELPERS - written and (owner in data or owner.endswith("DataModule")):
            reason = f"LightningDataModule.{name} was removed in 2.0"
            yield person(RULE.name, source.start(node), reason, f"parser.add_argument(...), then {owner}(...)")


def _own(source: Source) -> set[str]:
    """Return the Trainer's arguments that the file brings itself: as options, as defaults, and by assignment."""
    found = set()
    for call in source.all(cst.Call):
        method = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
        if method == "add_argument":
            found |= {_destination(source, call)}
        elif method == "set_defaults":
            found |= {one.keyword for one in arguments(source, call)} - set(_OPTIONS)
    return (found | _assigned(source)) & _KNOWN


def _destination(source: Source, call: cst.Call) -> str:
    given = arguments(source, call)
    named = [literal(one.text) for one in given if one.keyword == "dest"]
    options = [str(literal(one.text)) for one in given if not one.keyword and not one.star]
    long = [one for one in options if one.startswith("--")] or options
    return str(named[0]) if named else "".join(long[:1]).lstrip("-").replace("-", "_")


def _assigned(source: Source) -> set[str]:
    """Return the attributes that the file sets on what is given to from_argparse_args."""
    objects = {source.code(call.args[0].value) for call in _made(source) if call.args}
    targets = [target.target for one in source.all(cst.Assign) for target in one.targets]
    return {one.attr.value for one in targets if isinstance(one, cst.Attribute) and source.code(one.value) in objects}


def _made(source: Source) -> list[cst.Call]:
    return [call for call in source.all(cst.Call) if short(source.name(call.func)) in _FROM]


def _refusal(source: Source, own: set[str], offered: set[str]) -> str:
    """Return why the options cannot be written out; empty if they can."""
    parses = any(source.code(call.func).endswith((".parse_args", ".parse_known_args")) for call in source.all(cst.Call))
    if not parses:
        return "the parsed arguments are unknown"
    read = {one.attr.value for one in source.all(cst.Attribute) if source.code(one.value) in _namespaces(source)}
    missing = sorted((read & _KNOWN) - offered - own)
    return f"{', '.join(missing)} is read from the parsed arguments" if missing else ""


def _namespaces(source: Source) -> set[str]:
    """Return how the file names what it parsed."""
    return {
        "args",
        "hparams",
        "opt",
        "self.hparams",
        *(source.code(one.args[0].value) for one in _made(source) if one.args),
    }


def _helper(source: Source, node: cst.Attribute, own: set[str], offered: list[str]) -> Finding | None:
    """Return the replacement of one helper; None if it cannot be rewritten there."""
    call = source.parent(node)
    if not isinstance(call, cst.Call) or call.func is not node or not call.args:
        return None
    return _constructed(source, call, offered) if short(source.name(node)) in _FROM else _added(source, call, own)


def _added(source: Source, call: cst.Call, own: set[str]) -> Finding | None:
    around = source.parent(call)
    parser = source.code(call.args[0].value)
    plain = len(call.args) == 1 and isinstance(call.args[0].value, cst.Name) and not call.args[0].keyword
    if not plain or not isinstance(around, (cst.Assign, cst.Expr)):
        return None
    lines = [f'{parser}.add_argument("--{name}", {how})' for name, how in _OPTIONS.items() if name not in own]
    if isinstance(around, cst.Assign):
        targets = [source.code(one.target) for one in around.targets]
        lines += [f"{one} = {parser}" for one in targets if one != parser]
    indent = source.indent(source.start(around))
    edit = Edit(source.start(around), source.end(around), f"\n{indent}".join(lines))
    reason = "Trainer.add_argparse_args was removed in 2.0"
    fix = "the most common options; add others as needed, and pass --accelerator gpu --devices N instead of --gpus N"
    return Finding(RULE.name, source.start(call), reason, fix, (edit,), needed=True)


def _constructed(source: Source, call: cst.Call, offered: list[str]) -> Finding | None:
    parsed, *more = arguments(source, call)
    if parsed.keyword or any(one.star or not one.keyword for one in more):
        return None
    given = {one.keyword for one in more} | (_REPLACED if _OLD_DEVICES & set(offered) else set())
    pieces = [f"{name}={parsed.text}.{name}" for name in offered if name not in given]
    pieces += [source.code(one.node).rstrip().rstrip(",") for one in more]
    outer = source.indent(source.start(call))
    lines = "".join(f"\n{outer}{source.step}{piece}," for piece in pieces)
    trainer = source.code(call.func).rpartition(".")[0]
    edit = Edit(source.start(call), source.end(call), f"{trainer}({lines}\n{outer})" if lines else f"{trainer}()")
    reason = "Trainer.from_argparse_args was removed in 2.0"
    return Finding(RULE.name, source.start(call), reason, "the arguments one by one", (edit,), needed=True)


FIXER = Fixer((RULE,), find)
