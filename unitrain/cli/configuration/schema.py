"""The keys of a configuration, and how each of them is read."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from unitrain.cli.configuration import parts
from unitrain.cli.configuration.calls import is_node
from unitrain.cli.configuration.command_line import ROOTS
from unitrain.cli.configuration.parts import ByName, Plain
from unitrain.config import TrainerConfig, checked
from unitrain.distributed.options import STRATEGIES
from unitrain.errors import ConfigError
from unitrain.spec import TrainSpec
from unitrain.utilities.signature import shown

if TYPE_CHECKING:
    from unitrain.cli.configuration.parts import Part, Reader
    from unitrain.cli.configuration.places import Key, Places

_SPEC: dict[str, Reader] = {
    "model": parts.made(parts.MODULE),
    "loss": parts.called_with(2),
    "optimizer": parts.one_or_by_name(parts.factory(parts.OPTIMIZER)),
    "lr_scheduler": parts.schedules,
    "metrics": parts.metrics,
    "callbacks": parts.listed(parts.made()),
    "training_step": parts.called_with(2),
    "validation_step": parts.called_with(2),
    "predict_step": parts.called_with(2),
    "automatic_optimization": parts.plain,
    "hparams": parts.plain,
    "example_input": parts.plain_or_made,
    "batch_size": lambda value, key, places: (parts.plain if _is_number(value) else parts.called_with(1))(
        value, key, places
    ),
}
assert set(_SPEC) == {one.name for one in fields(TrainSpec)}  # noqa: S101
_TRAINER: dict[str, Reader] = {
    "callbacks": parts.listed(parts.made()),
    "loggers": parts.listed(parts.made()),
    "strategy": lambda value, key, places: (_option if value in [*STRATEGIES] else parts.made())(value, key, places),
    "profiler": lambda value, key, places: (parts.made() if is_node(value) else _option)(value, key, places),
}
"""Options of the trainer that may be objects; all others are plain values."""
TRAINER = tuple(one.name for one in fields(TrainerConfig) if one.name != "seed")
_SEED = "the seed is a key of its own, since it is sown before the model is built: `seed: 0`, or --seed 0."


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _option(value: Any, key: Key, places: Places) -> Part:
    name = str(key[-1])
    try:
        checked(name, value)
    except ConfigError as error:
        said = str(error).partition("\nHint: ")[0].removeprefix(f"{name} ")
        raise places.refusal(key, said, error.hint or "") from error
    return Plain(value, key, places)


def read_spec(given: dict[str, Any] | str, places: Places) -> Part:
    """Return the spec: its fields, or one class or function that makes it.

    Raises:
        ConfigError: If a key is unknown, or a value is invalid.
    """
    if isinstance(given, str) or is_node(given):
        return parts.made()(given, ("spec",), places)
    places.require_known(("spec",), given, _SPEC)
    if given.get("model") is None:
        raise places.refusal(("spec", "model"), "is missing.", "model: {class_path: package.Net, init_args: {...}}")
    found: dict[str, Part] = {}
    for one in fields(TrainSpec):
        key, value = ("spec", one.name), given.get(one.name)
        if value is None:
            found[one.name] = Plain([] if one.name == "callbacks" else _default(one), key, places)
        else:
            found[one.name] = _SPEC[one.name](value, key, places)
    return ByName(found)


def read_trainer(given: dict[str, Any], places: Places) -> ByName:
    """Return the options of the trainer.

    Raises:
        ConfigError: If a key is unknown, a value is invalid, or two contradict each other.
    """
    if "seed" in given:
        raise places.refusal(("trainer", "seed"), "unknown key.", _SEED)
    places.require_known(("trainer",), given, TRAINER)
    found: dict[str, Part] = {}
    for one in fields(TrainerConfig):
        if one.name == "seed":
            continue
        key = ("trainer", one.name)
        if one.name in ("callbacks", "loggers") and given.get(one.name) is None:
            found[one.name] = Plain([] if one.name == "callbacks" else None, key, places)
        else:
            value = given.get(one.name, _default(one))
            found[one.name] = _TRAINER.get(one.name, _option)(value, key, places)
    options = {name: part.plain for name, part in found.items() if isinstance(part, Plain)}
    with places.naming(("trainer",)):
        TrainerConfig(**{name: value for name, value in options.items() if name not in ("callbacks", "loggers")})
    return ByName(found)


def _default(field: Any) -> Any:
    return None if field.default is MISSING else field.default


def read_data(given: Any, places: Places) -> Part:
    """Return the data: what makes a DataSpec, a datamodule or loaders."""
    return Plain(None, ("data",), places) if given is None else parts.made()(given, ("data",), places)


def require_roots(tree: dict[str, Any], places: Places) -> None:
    """Refuse unknown keys at the top, and values that are no mappings.

    Raises:
        ConfigError: If there is one.
    """
    places.require_known((), tree, ROOTS)
    for name in ("trainer", "spec"):
        if name == "spec" and isinstance(tree.get(name), str) and "." in tree[name]:
            continue  # one class or function that makes it
        if not isinstance(tree.get(name, {}), (dict, type(None))):
            raise places.refusal((name,), f"must be a mapping; got {shown(tree[name])}.", f"{name}: {{...}}")
    if not isinstance(tree.get("framework"), (str, type(None))):
        raise places.refusal(("framework",), f"must be a name; got {shown(tree['framework'])}.", "framework: lightning")
    seed = tree.get("seed")
    if seed is not None:
        _option(seed, ("seed",), places)
