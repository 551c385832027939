"""The only module that imports Lightning and handles its versions and its two packages."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager, nullcontext
from functools import cache, partial, reduce
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeVar

import torch
from packaging.version import Version

from unitrain.compat.blocked import check_blocked, installed, warn_mismatch
from unitrain.compat.differences import difference
from unitrain.compat.setuptools import pkg_resources_there
from unitrain.compat.windows import refuse_outside
from unitrain.errors import VersionError
from unitrain.utilities.rng import preserved_rng
from unitrain.utilities.train_modes import ModuleModes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

F = TypeVar("F", bound="Callable[..., Any]")

REQUIRES = ("pytorch-lightning>=2.4,!=2.6.2,!=2.6.3",)
ROOTS: Final = {"pytorch_lightning": "pytorch-lightning", "lightning.pytorch": "lightning"}
"""The two packages and their distributions: copies of one framework, each with its own classes."""


def until(release: str) -> Callable[[F], F]:
    """Mark a function that is of no use from a release of Lightning's on."""
    link = f"https://github.com/Lightning-AI/pytorch-lightning/releases/tag/{release}"
    return difference("pytorch-lightning", since=release, drop=release, link=link)


def default_root() -> str:
    """Return the default Lightning package: one that is imported, else one that is installed.

    Raises:
        ModuleNotFoundError: If neither is installed.
    """
    there = [root for root in ROOTS if find_spec(root.partition(".")[0]) is not None]
    if not there:
        raise ModuleNotFoundError("No module named 'pytorch_lightning'", name="pytorch_lightning")
    return next((root for root in there if root in sys.modules), there[0])


@cache
def release(root: str) -> Version:
    """Return the release of one of the packages; of a source tree without metadata, the newest.

    It is kept: reading it takes a millisecond, each run asks several times, and what is imported stays what it is.
    """
    return Version(next(iter(installed(ROOTS[root])), "9999"))


check_blocked()
warn_mismatch()
refuse_outside(ROOTS[default_root()])


@until("2.4.0")
def importing(root: str) -> AbstractContextManager[None]:
    """Return a context for importing ``root``: older releases require ``pkg_resources``, which was removed."""
    return pkg_resources_there() if release(root) < Version("2.4") else nullcontext()


@cache
def _imported(root: str) -> None:
    """Import one of the two packages.

    A generator does it, as its frame is cut off from the caller's: errors that packages leave behind in cycles, with
    the frames above them, would else keep the user's objects alive until the garbage collector runs.
    """
    refuse_outside(ROOTS[root])
    with importing(root), preserved_rng():  # rich, which Lightning imports, draws a number
        list(_import_apart(root))


def _import_apart(root: str) -> Iterator[None]:
    import_module(root)
    yield


_BESIDE_THE_POINT = (
    # the shell defines every step; which loaders there are is unitrain's to check
    r"You defined a `\w+` but have no `\w+`",
    # frozen submodules are the user's wish
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # unitrain's own batches come from a wrapper; the advice is about DataLoaders
    r".*does not have many workers which may be a bottleneck",
    # the device was chosen by unitrain, and named
    r"(GPU|MPS) available but not used",
    # Lightning's own callbacks ask for the interval, which is unitrain's too
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # a run of batches counts as Lightning does
    r"Found `dataloader_iter` argument in the",
    r"You are using the `dataloader_iter` step flavor",
    # an older release says what unitrain raises
    r"Detected KeyboardInterrupt, attempting graceful shutdown",
)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence Lightning's messages about unitrain's own decisions; real warnings pass."""
    logs = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(max(log.level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            for message in _BESIDE_THE_POINT:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


_BEFORE_2_1: Final = {
    "plugins:Precision": "plugins:PrecisionPlugin",
    "plugins:MixedPrecision": "plugins:MixedPrecisionPlugin",
    "plugins:DoublePrecision": "plugins:DoublePrecisionPlugin",
}


@until("2.1.0")
def place_before_2_1(root: str, place: str) -> str:
    """Return where a part of today's is in the installed release: precision plugins had other names before 2.1.

    Raises:
        VersionError: If there was none, which says what it is for.
    """
    if release(root) >= Version("2.1"):
        return place
    if place == "plugins:HalfPrecision":
        raise VersionError(
            f"precision='bf16-true' and '16-true' require {ROOTS[root]} 2.1; installed: {release(root)}.",
            hint=f"pip install --upgrade '{ROOTS[root]}>=2.4', or precision='bf16-mixed'.",
        )
    return _BEFORE_2_1.get(place, place)


_FABRIC = {"lightning.pytorch": "lightning.fabric", "pytorch_lightning": "lightning_fabric"}


def part(root: str, place: str) -> Any:
    """Return an object of Lightning.

    Args:
        root: ``"lightning.pytorch"`` or ``"pytorch_lightning"``: two copies of one framework, each with its classes.
        place: ``module:attribute`` below ``root``; below its Fabric if it begins with ``fabric.``.
    """
    _imported(root)
    module, _, attributes = place_before_2_1(root, place).partition(":")
    full = f"{_FABRIC[root]}.{module.removeprefix('fabric.')}" if module.startswith("fabric.") else f"{root}.{module}"
    return reduce(getattr, filter(None, attributes.split(".")), import_module(full))


@until("2.5.5")
def keep_no_casts(plugin: Any, root: str) -> None:
    """Let a plugin of mixed precision keep no cache of cast weights: gradients of one used twice have other bits."""
    if release(root) < Version("2.5.5"):
        dtype = torch.bfloat16 if plugin.precision == "bf16-mixed" else torch.half
        plugin.autocast_context_manager = partial(torch.autocast, plugin.device, dtype=dtype, cache_enabled=False)


@until("2.2.0")
def keep_modes(shell: Any, root: str) -> None:
    """Let a shell's model have its own modes back; before 2.2 all of it ends up in one."""
    if release(root) >= Version("2.2"):
        return
    kept: list[ModuleModes] = []

    def train(mode: bool = True) -> Any:
        shell.training = mode
        if not mode:
            kept.append(ModuleModes(shell.model))
        elif kept:
            kept.pop().restore()
        return shell

    shell.train = train
    shell.on_predict_end = train


@until("2.4.0")
def fetches_by_itself(root: str) -> bool:
    """Return whether a step may fetch its batches itself: tested from 2.4 on; in 2.0 it only gets a batch."""
    return release(root) >= Version("2.4")


@until("2.4.0")
def raise_interrupt(trainer: Any, root: str) -> None:
    """Raise the Ctrl-C that a release before 2.4 swallowed; later ones make an exit of it.

    Raises:
        KeyboardInterrupt: If there was one.
    """
    if release(root) < Version("2.4") and trainer.interrupted:
        raise KeyboardInterrupt


@until("2.5.3")
def refuse_rich_bar(callback: object, root: str) -> None:
    """Refuse Lightning's bar of rich, which before 2.5.3 ends a second epoch with an IndexError since rich 14.1.

    Raises:
        VersionError: If it would.
    """
    bar = any(cls.__name__ == "RichProgressBar" for cls in type(callback).__mro__)
    rich = Version(next(iter(installed("rich")), "0"))
    if bar and release(root) < Version("2.5.3") and rich >= Version("14.1"):
        raise VersionError(
            f"the RichProgressBar of {ROOTS[root]} {release(root)} does not work with rich {rich}.",
            hint="use enable_progress_bar=True for unitrain's own bar, or pip install 'rich<14.1'.",
        )
