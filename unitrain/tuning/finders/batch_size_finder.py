"""Finds the largest batch size that fits into memory by training a copy of the model."""

from __future__ import annotations

import copy
import gc
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from unitrain.compat.other_names import callback_arguments_for
from unitrain.data.sources import DataSpec
from unitrain.errors import ConfigError, DataError, named_arguments
from unitrain.tuning.finders.search_fit import bare_copy, require_spec, trial_trainer, untouched
from unitrain.utilities.rng import preserved_rng
from unitrain.utilities.signature import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from unitrain.backends.protocol import Adapter
    from unitrain.spec import TrainSpec
    from unitrain.trainer import UnifiedTrainer

_MODES: Final = ("power", "binsearch")
_OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "CUDNN_STATUS_NOT_SUPPORTED")
"""Fragments of torch's out-of-memory errors; DefaultCPUAllocator and cuDNN raise a plain RuntimeError."""


class Trial(NamedTuple):
    """The outcome of one batch size.

    Attributes:
        batch_size: The size.
        fits: Whether it trained without running out of memory.
    """

    batch_size: int
    fits: bool


@named_arguments(ConfigError, callback_arguments_for)
class BatchSizeFinder(Shown):
    """Tries growing batch sizes and finds the largest one that trains without running out of memory.

    The size doubles until memory runs out. With ``mode="power"`` the last size that fits is the result; with
    ``"binsearch"`` the sizes between it and the first that does not are searched. If not even ``init_val`` fits,
    smaller ones are tried. Errors other than running out of memory are raised. Only training is measured: leave room
    for what the search leaves out (metrics, EMA, larger validation batches), with ``margin``.

    Attributes:
        batch_size: The largest size that fits, after ``run``; None before.
        trials: The tried sizes, in order.

    Args:
        mode: ``"power"`` or ``"binsearch"``.
        steps_per_trial: Batches to train on with each size.
        init_val: The first size.
        max_trials: Maximum number of sizes to try.
        margin: The fraction by which ``"binsearch"`` reduces the size it found, in [0, 1).
        max_val: The largest size to try.

    Raises:
        ConfigError: If a value is invalid.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> from unitrain import BatchSizeFinder, TrainSpec
        >>> net, sgd = torch.nn.Linear(4, 1), partial(torch.optim.SGD, lr=0.1)
        >>> spec = TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=sgd)
        >>> loader = DataLoader(TensorDataset(torch.randn(64, 4), torch.randn(64, 1)))
        >>> print(BatchSizeFinder(max_val=16).run("reference", spec, loader))
        batch_size=16, the largest size tried
             2 fits
             4 fits
             8 fits
            16 fits

    Lightning's counterparts are ``BatchSizeFinder`` and ``Tuner.scale_batch_size``, whose arguments have these names.
    """

    def __init__(
        self,
        mode: Literal["power", "binsearch"] = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        *,
        margin: float = 0.0,
        max_val: int = 8192,
    ) -> None:
        counts = {
            "steps_per_trial": steps_per_trial,
            "init_val": init_val,
            "max_trials": max_trials,
            "max_val": max_val,
        }
        checks = [(mode in _MODES, f"mode must be one of {_MODES}; got {mode!r}")]
        for name, value in counts.items():
            whole = isinstance(value, int) and not isinstance(value, bool)
            checks.append((whole and value >= 1, f"{name} must be an integer of at least 1; got {value!r}"))
        good = isinstance(margin, (int, float)) and not isinstance(margin, bool) and 0 <= margin < 1
        checks.append((good, f"margin must be a number from 0 to below 1; got {margin!r}"))
        checks.append((not margin or mode == "binsearch", f'margin={margin!r} has no effect with mode="power"'))
        for valid, message in checks:
            if not valid:
                raise ConfigError(f"BatchSizeFinder: {message}.", hint='BatchSizeFinder("binsearch", init_val=2)')
        if init_val > max_val:
            raise ConfigError(
                f"BatchSizeFinder: init_val={init_val} is greater than max_val={max_val}.", hint="raise max_val."
            )
        self.mode, self.steps_per_trial, self.init_val, self.max_trials = mode, steps_per_trial, init_val, max_trials
        self.margin, self.max_val = margin, max_val
        self.batch_size: int | None = None
        self.trials: list[Trial] = []

    def run(
        self,
        trainer: UnifiedTrainer | str | Adapter,
        spec: TrainSpec,
        train_dataloaders: DataLoader[Any] | DataSpec | Callable[[int], Any],
    ) -> BatchSizeFinder:
        """Search, on copies of the spec's model and optimizer; model, optimizer and generators stay as they were.

        Args:
            trainer: A trainer with the framework and options to use (precision, accumulation, ...), or a framework.
            spec: What to train; its schedules, metrics and callbacks are ignored.
            train_dataloaders: A DataLoader, which is copied with another batch size, or ``make_loader(batch_size)``.

        Returns:
            This object, with its ``batch_size`` and ``trials``.

        Raises:
            ConfigError: If not even a batch of one sample fits.
            DataError: If the data cannot be batched otherwise.
            UnsupportedFeatureError: If the trainer would run in several processes.
        """
        require_spec("BatchSizeFinder", spec)
        make = _maker(train_dataloaders)
        options = {"max_epochs": 1, "max_steps": -1, "limit_train_batches": self.steps_per_trial}
        new_trainer = partial(trial_trainer, "BatchSizeFinder", trainer, **options)
        self.batch_size, self.trials = None, []
        with preserved_rng(), _parked(spec.model), _quick_collection():
            self._search(lambda size: _fits(new_trainer(), spec, make, size))
        if self.batch_size is None:
            smallest = self.trials[-1].batch_size
            raise ConfigError(
                f"BatchSizeFinder: out of memory already at a batch size of {smallest}.",
                hint='use a smaller model, precision="bf16-mixed" or a higher max_trials=.',
            )
        if self.margin:
            self.batch_size = max(1, int(self.batch_size * (1 - self.margin)))
        return self

    def _search(self, fits: Callable[[int], tuple[bool, int]]) -> None:
        """Try sizes; ``fits`` tells whether one does, and how many samples there are at most."""
        size, high = self.init_val, None
        while len(self.trials) < self.max_trials:
            good, most = fits(size)
            size = min(size, most)
            self.trials.append(Trial(size, good))
            if good:
                self.batch_size = size
            else:
                high = size
            following = self._next(min(self.max_val, most), high)
            if following is None:
                return
            size = following

    def _next(self, most: int, high: int | None) -> int | None:
        """Return the size to try now, or None at the end.

        Args:
            most: The largest to try.
            high: The smallest that does not fit, if one does not.
        """
        low = self.batch_size
        if high is None:
            return None if low is None or low >= most else min(2 * low, most)
        if low is None:
            return high // 2 or None
        return (low + high) // 2 if self.mode == "binsearch" and high - low > 1 else None

    def __str__(self) -> str:
        """Return the result and the trials as a table."""
        if self.batch_size is None:
            return "BatchSizeFinder: not run yet" if not self.trials else "BatchSizeFinder: no batch size fits"
        limit = "" if any(not one.fits for one in self.trials) else ", the largest size tried"
        rows = [f"{one.batch_size:6} {'fits' if one.fits else 'out of memory'}" for one in self.trials]
        return "\n".join([f"batch_size={self.batch_size}{limit}", *rows])


def _maker(given: Any) -> Callable[[int], Any]:
    """Return what makes a loader of a batch size.

    Raises:
        DataError: If that cannot be known.
    """
    loader = given.train if isinstance(given, DataSpec) else given
    if isinstance(loader, DataLoader):
        if type(loader.batch_sampler) is not BatchSampler:
            what = (
                "batch_size=None" if loader.batch_sampler is None else f"a custom {type(loader.batch_sampler).__name__}"
            )
            raise DataError(f"BatchSizeFinder cannot change the batch size of a DataLoader with {what}.", hint=_HINT)
        return lambda size: _resized(loader, size)
    if callable(loader) and not isinstance(loader, type):
        return loader  # type: ignore[no-any-return]
    raise DataError(
        f"BatchSizeFinder takes a DataLoader or a function; got a {type(loader).__name__}.",
        hint="pass DataLoader(dataset), or a function make_loader(batch_size) that returns a loader.",
    )


_HINT: Final = "pass a function make_loader(batch_size) that returns a loader."


def _resized(loader: DataLoader[Any], size: int) -> DataLoader[Any]:
    """Return ``loader`` with another batch size; a subclass cannot be recreated."""
    changed = copy.copy(loader)
    vars(changed)["_iterator"] = None
    vars(changed)["batch_size"] = size
    vars(changed)["batch_sampler"] = BatchSampler(loader.sampler, size, loader.drop_last)
    return changed


def _samples(loader: Any, size: int) -> int:
    """Return how large a batch of ``loader`` may become, or ``size`` and more if that is not known."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return 2 * size
    return len(loader.sampler)  # type: ignore[arg-type]


def _fits(runner: UnifiedTrainer, spec: TrainSpec, make: Callable[[int], Any], size: int) -> tuple[bool, int]:
    """Return whether training with this size does not run out of memory, and how many samples there are."""
    loader = make(size)
    most = _samples(loader, size)
    if 0 < most < size:
        loader = make(most)
    good = True
    try:
        with untouched(loader):
            runner.fit(bare_copy(spec), loader)
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is the first
        if not _is_out_of_memory(error):
            raise
        good = False
    del loader
    _free_memory()
    return good, most


def _is_out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)


def _free_memory() -> None:
    """Free the trial's tensors, which reference cycles may keep alive."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


@contextmanager
def _quick_collection() -> Iterator[None]:
    """Make garbage collection between trials only scan objects that the trials created."""
    own = not gc.get_freeze_count()  # unfreezing would undo another's
    if own:
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if own:
            gc.unfreeze()


@contextmanager
def _parked(model: nn.Module) -> Iterator[None]:
    """Keep ``model`` on the CPU meanwhile: beside it on a GPU, its copy would find too little memory."""
    devices = {one.device for one in (*model.parameters(), *model.buffers())}
    if len(devices) != 1 or next(iter(devices)).type == "cpu":
        yield
        return
    model.to("cpu")
    try:
        yield
    finally:
        model.to(next(iter(devices)))
