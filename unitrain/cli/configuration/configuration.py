"""A configuration: read from files and options, checked, complete; and the objects that it describes."""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from unitrain.cli.configuration import schema
from unitrain.cli.configuration.calls import is_node
from unitrain.cli.configuration.layers import Layers
from unitrain.cli.configuration.parts import ByName
from unitrain.cli.configuration.yaml_files import read, text_of
from unitrain.data.datamodules import is_datamodule
from unitrain.data.sources import DataSpec
from unitrain.errors import ConfigError
from unitrain.spec import TrainSpec
from unitrain.utilities.rng import seed_everything
from unitrain.utilities.secrets import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from unitrain.cli.configuration.command_line import Override
    from unitrain.cli.configuration.places import Key, Places

_SEEDS = 2**32
_CREDENTIALS = re.compile(r"://(?:[^/\s:@]*:[^/\s@]+|[^/\s:@]{20,})@")
"""A password in an address, or a token in place of a user."""
_SPECIAL = re.compile(r"[<\[].*[>\]]")
"""A tokenizer's token, such as ``pad_token: "[PAD]"``, which is no secret."""


@dataclass(frozen=True)
class Built:
    """The objects that a configuration describes.

    Attributes:
        spec: The TrainSpec, or a framework's own code.
        train: The training data: what ``fit`` takes first.
        val: The validation data, if the training data does not include it.
        test: The data to test on.
        predict: The data to predict.
        trainer_options: The keyword arguments of UnifiedTrainer. ``loggers`` is missing if the file names none.
    """

    spec: Any
    train: Any
    val: Any
    test: Any
    predict: Any
    trainer_options: dict[str, Any]

    @property
    def is_spec(self) -> bool:
        """Whether it is a TrainSpec."""
        return isinstance(self.spec, TrainSpec)


@dataclass(frozen=True)
class Configuration:
    """A configuration that has been checked; nothing is built yet. It can be pickled.

    Attributes:
        tree: Its plain values with all defaults, as a file has them.
        places: Where each value was given.
        notes: What the user should know about it.
    """

    tree: Mapping[str, Any]
    places: Places
    notes: tuple[str, ...] = ()

    @property
    def framework(self) -> str | None:
        """The backend, if one is named."""
        return self.tree["framework"]  # type: ignore[no-any-return]

    @property
    def seed(self) -> int | None:
        """The seed, if there is one."""
        return self.tree["seed"]  # type: ignore[no-any-return]

    @property
    def text(self) -> str:
        """The configuration as YAML, which reads back the same."""
        return text_of(dict(self.tree))

    def seeded(self) -> Configuration:
        """Return the configuration with a seed; if it has none, one is drawn."""
        return self if self.seed is not None else self.with_values(seed=secrets.randbelow(_SEEDS))

    def with_values(self, **values: Any) -> Configuration:
        """Return the configuration with other values of ``framework`` or ``seed``."""
        return replace(self, tree={**self.tree, **values})

    def build(self) -> Built:
        """Sow the seed and return new objects: the spec, then the data, then the trainer's callbacks and trackers.

        Raises:
            UnitrainError: If something cannot be made; the message names its place and key.
        """
        if self.seed is None:
            raise ConfigError("the configuration has no seed.", hint="seed: 0")
        spec_part = schema.read_spec(self.tree["spec"], self.places)
        data_part = schema.read_data(self.tree["data"], self.places)
        options = schema.read_trainer(self.tree["trainer"], self.places)
        seed_everything(self.seed)
        spec = self._spec(spec_part)
        train, val, test, predict = self._data(data_part.build())
        made = {**options.build(), "seed": self.seed}
        if made["loggers"] is None:
            del made["loggers"]
        return Built(spec, train, val, test, predict, made)

    def _spec(self, part: Any) -> Any:
        if not isinstance(part, ByName):
            return part.build()
        fields = part.build()
        with self.places.naming(("spec",), fields):
            return TrainSpec(**fields | {"hparams": {**self.tree, **(fields["hparams"] or {})}})

    def _data(self, given: Any) -> tuple[Any, Any, Any, Any]:
        """Return the data of training, validation, test and prediction."""
        if isinstance(given, DataSpec) or is_datamodule(given):
            return given, None, given, given
        if not isinstance(given, tuple):
            return given, None, None, None
        if len(given) != len(("train", "val")):
            raise self.places.refusal(
                ("data",),
                f"must make a DataSpec, a datamodule, a loader or (train, val); it made a tuple of {len(given)}.",
                "return unitrain.DataSpec(train=..., val=..., test=...).",
            )
        return (*given, None, None)


def load(paths: Sequence[str | Path], overrides: Iterable[Override] = ()) -> Configuration:
    """Read configuration files and options, check them, and complete them with all defaults.

    The modules of the named classes are imported; nothing is built.

    Args:
        paths: The files; later ones override earlier ones.
        overrides: Options of the command line, which override the files.

    Raises:
        ConfigError: If anything is invalid; the message names its place, key and value.
    """
    layers = Layers()
    for path in paths:
        layers.add(read(path))
    for override in overrides:
        layers.override(override)
    merged = layers.merged()
    tree, places = merged.tree, merged.places
    _require_sound(tree, (), places)
    schema.require_roots(tree, places)
    spec = schema.read_spec(tree.get("spec") or {}, places)
    trainer = schema.read_trainer(tree.get("trainer") or {}, places)
    data = schema.read_data(tree.get("data"), places)
    complete = {
        "framework": tree.get("framework"),
        "seed": tree.get("seed"),
        "trainer": trainer.plain,
        "spec": spec.plain,
        "data": data.plain,
    }
    return Configuration(complete, places, merged.notes)


def _require_sound(value: Any, key: Key, places: Places) -> None:
    """Refuse NaN, which no option means, and passwords and keys, which would be stored with the run."""
    if isinstance(value, float) and math.isnan(value):
        raise places.refusal(key, "is NaN, which is not a value.", "use a number.")
    if isinstance(value, str) and _CREDENTIALS.search(value):
        raise places.refusal(
            key,
            "contains a password, which would be stored with the run and sent to its trackers.",
            "remove it; trackers read passwords from environment variables.",
        )
    nearest = next((one for one in reversed(key) if isinstance(one, str)), "")
    if isinstance(value, str) and value and is_secret(nearest) and not _SPECIAL.fullmatch(value):
        raise places.refusal(
            key,
            "is a secret, which would be stored with the run and sent to its trackers.",
            "remove it; trackers read secrets from environment variables, and so can your class.",
        )
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in below:
        _require_sound(one, (*key, name), places)


def require_fit(configuration: Configuration) -> None:
    """Refuse a configuration that cannot be trained.

    Raises:
        ConfigError: If the optimizer, the loss or the data is missing.
    """
    places, spec = configuration.places, configuration.tree["spec"]
    if configuration.tree["data"] is None:
        raise places.refusal(
            ("data",), "is missing.", "data: {class_path: package.Digits, init_args: {batch_size: 32}}"
        )
    if is_node(spec):
        return
    if spec["optimizer"] is None:
        hint = "optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.001}}"
        raise places.refusal(("spec", "optimizer"), "is missing.", hint)
    automatic = spec["automatic_optimization"] is not False
    if spec["training_step"] is None and (spec["loss"] is None or not automatic):
        missing = "loss" if automatic else "training_step"
        raise places.refusal(
            ("spec", missing), "is missing.", "loss: torch.nn.CrossEntropyLoss; or training_step: package.function"
        )
    if automatic and not is_node(spec["optimizer"]):
        names = ", ".join(spec["optimizer"])
        raise places.refusal(
            ("spec", "optimizer"),
            f"several optimizers ({names}) need a training step that says when to step which.",
            "automatic_optimization: false and training_step: package.function, which takes (run, batch).",
        )
