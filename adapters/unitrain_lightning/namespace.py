"""Lightning's classes by name, from the package in use, and unitrain's subclasses of them."""

from __future__ import annotations

from functools import cache
from types import new_class
from typing import TYPE_CHECKING, Any, ClassVar

from unitrain.errors import ConfigError
from unitrain_lightning._compat import ROOTS, default_root, part

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

_PLACES: dict[str, str] = {
    "Callback": "callbacks:Callback",
    "Checkpoint": "callbacks:Checkpoint",
    "ClusterEnvironment": "plugins:ClusterEnvironment",
    "DDPStrategy": "strategies:DDPStrategy",
    "DoublePrecision": "plugins:DoublePrecision",
    "EarlyStopping": "callbacks:EarlyStopping",
    "HalfPrecision": "plugins:HalfPrecision",
    "LightningCLI": "cli:LightningCLI",
    "LightningEnvironment": "plugins.environments:LightningEnvironment",
    "LightningModule": "core.module:LightningModule",
    "Logger": "loggers.logger:Logger",
    "LoggerConnector": "trainer.connectors.logger_connector.logger_connector:_LoggerConnector",
    "MixedPrecision": "plugins:MixedPrecision",
    "ModelSummary": "callbacks:ModelSummary",
    "Precision": "plugins:Precision",
    "Profiler": "profilers:Profiler",
    "ProgressBar": "callbacks:ProgressBar",
    "SaveConfigCallback": "cli:SaveConfigCallback",
    "Timer": "callbacks:Timer",
    "Trainer": "trainer.trainer:Trainer",
    "migrate_checkpoint": "utilities.migration:migrate_checkpoint",
    "rank_zero_only": "utilities.rank_zero:rank_zero_only",
}
"""Where each part is: ``module:attribute``; ``fabric`` is the Fabric package of the same root."""


class Namespace:
    """One of Lightning's two packages; their classes are not the same objects. Each part is looked up at first use.

    Args:
        root: The package, one of ``ROOTS``.
    """

    places: ClassVar[Mapping[str, str]] = _PLACES

    def __init__(self, root: str) -> None:
        self.root = root

    def __getattr__(self, name: str) -> Any:
        if name not in self.places:
            raise AttributeError(name)
        found = part(self.root, self.places[name])
        setattr(self, name, found)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the package's name: the looked-up objects include modules and functions."""
        return type(self), (self.root,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Be shared by copies."""
        return self

    def made(self, own: Any) -> Any:
        """Return ``own``, an ``OnLightning``, mixed into its base class of this package."""
        return _mixed(self.root, own)


_Anything: Any = object  # the class beneath is known when a run is made; to the type checker it is Any


class OnLightning(_Anything):  # type: ignore[misc]
    """A mixin for classes of Lightning, applied by ``Namespace.made``.

    Attributes:
        stands_on: The name of that class.
        lightning: The package it is of.
    """

    stands_on: ClassVar[str]
    lightning: ClassVar[Namespace]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Copy and pickle by the name of its own class, because the mixed one has none."""
        cls = type(self)
        if "lightning" not in vars(cls):
            return super().__reduce_ex__(protocol)  # type: ignore[no-any-return]
        _, _, *state = super().__reduce_ex__(max(protocol, 2))  # the older ones call the class beneath
        return _empty, (cls.lightning.root, cls.__bases__[0]), *state


@cache
def namespace(root: str) -> Namespace:
    """Return the package of that name."""
    return Namespace(root)


def _empty(root: str, own: Any) -> Any:
    cls = _mixed(root, own)
    return cls.__new__(cls)


@cache
def _mixed(root: str, own: Any) -> Any:
    of = namespace(root)
    body = {"__module__": own.__module__, "__qualname__": own.__qualname__, "__doc__": own.__doc__, "lightning": of}
    return new_class(own.__name__, (own, getattr(of, own.stands_on)), exec_body=lambda space: space.update(body))


def root_of(cls: type) -> str | None:
    """Return which of the two packages a class itself comes from, or None."""
    return next((root for root in ROOTS if cls.__module__ == root or cls.__module__.startswith(f"{root}.")), None)


def is_a(thing: object, name: str) -> bool:
    """Return whether ``thing`` is an object of the class of that name, of either package."""
    return any(cls.__name__ == name and root_of(cls) for cls in type(thing).__mro__)


def namespace_of(things: Iterable[object], loggers: Iterable[object] = ()) -> Namespace:
    """Return the package that the user's own objects come from.

    Args:
        things: Arguments of a Trainer, which must be of its package.
        loggers: Loggers of any package, which decide only if nothing else does.

    Raises:
        ConfigError: If ``things`` come from both.
    """
    found = _by_root(things)
    if len(found) > 1:
        (one, names), (other, others) = found.items()
        raise ConfigError(
            f"{', '.join(names)} of {one} and {', '.join(others)} of {other}: the two packages have different"
            f" classes under the same names, and a Trainer only accepts those of one.",
            hint=f"import all of them from {one}, or all from {other}.",
        )
    return namespace(next(iter(found or _by_root(loggers)), None) or default_root())


def _by_root(things: Iterable[object]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for thing in things:
        root = next(filter(None, map(root_of, type(thing).__mro__)), None)
        if root is not None:
            found.setdefault(root, []).append(type(thing).__name__)
    return found
