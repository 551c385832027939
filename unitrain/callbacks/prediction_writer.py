"""Writes predictions to files."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch
from torch import Tensor

from unitrain.callbacks.callback import Callback
from unitrain.compat.other_names import callback_arguments_for
from unitrain.data.batch import describe, to_device
from unitrain.data.structure import Mapped
from unitrain.errors import ConfigError, SpecError, UnitrainError, named_arguments
from unitrain.utilities.files import failing_as, user_path, written
from unitrain.utilities.ledger import Ledger

if TYPE_CHECKING:
    import numpy as np

    from unitrain.run.context import RunContext
    from unitrain.utilities.ledger import Notes

Writer: TypeAlias = "Callable[[RunContext, Any, Any, int], object]"
"""``writer(run, prediction, batch, index)``, which writes the prediction of one batch."""

_INTERVALS: Final = ("batch", "epoch")
_CPU: Final = torch.device("cpu")
_TWO_DIMENSIONS: Final = 2
_OWNER: Final = "PredictionWriter"


@named_arguments(ConfigError, callback_arguments_for)
class PredictionWriter(Callback):
    """Writes the predictions of ``trainer.predict`` into a folder, with the same bytes on every backend.

    ``trainer.predict(..., return_predictions=False)`` keeps none in memory. With ``write_interval="batch"`` each batch
    becomes a file, ``batch-00000.pt`` and so on; of several processes, each writes its own, ``rank-1-batch-00000.pt``.
    With ``"epoch"`` rank 0 writes one file, ``predictions.pt``, with those of all processes in the order of the data,
    each sample once. The files of several loaders are in folders with the loaders' names.

    Each file is written atomically. A second prediction into the folder replaces the files of the first; it never
    replaces a file that it did not write. A relative ``folder`` is below the working directory in which the prediction
    starts: after ``os.chdir("fold1")``, the files in ``fold0`` stay.

    Attributes:
        paths: The files of the last prediction that this process wrote.

    Args:
        folder: Folder for the files; created if necessary.
        write_interval: ``"batch"`` or ``"epoch"``.
        format: ``"pt"`` (``torch.save``; an epoch is a list of the batches), ``"npy"`` (an array; an epoch is
            concatenated), ``"csv"`` (one row per sample, from a tensor of shape ``(B,)`` or ``(B, C)`` or a mapping of
            such), or ``writer(run, prediction, batch, index)``, called with each batch and its index in its loader.

    Raises:
        ConfigError: If an argument is invalid; when prediction starts, if the folder has a file of that name that the
            writer did not write.
        SpecError: If the format does not support a prediction.
        UnitrainError: If a file cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from unitrain import PredictionWriter, TrainSpec, UnifiedTrainer
        >>> writer = PredictionWriter(tempfile.mkdtemp(), write_interval="epoch", format="csv")
        >>> trainer = UnifiedTrainer("reference", callbacks=[writer], enable_progress_bar=False)
        >>> trainer.predict(TrainSpec(model=torch.nn.Identity()), [torch.eye(2)], return_predictions=False)
        >>> print(writer.paths[0].read_text())
        0,1
        1.0,0.0
        0.0,1.0
        <BLANKLINE>

    Lightning's counterpart is ``BasePredictionWriter``.
    """

    def __init__(
        self,
        folder: str | Path,
        write_interval: Literal["batch", "epoch"] = "batch",
        format: Literal["pt", "npy", "csv"] | Writer = "pt",  # noqa: A002 - as everyone calls it
    ) -> None:
        if not isinstance(folder, (str, Path)) or not str(folder):
            raise ConfigError(f"PredictionWriter(folder=) must be a path, got {folder!r}.", hint='"predictions"')
        if write_interval not in _INTERVALS:
            raise ConfigError(
                f"PredictionWriter(write_interval=) must be one of {_INTERVALS}, got {write_interval!r}.",
                hint='write_interval="epoch"',
            )
        own = callable(format) and not isinstance(format, type)
        if not own and format not in _FORMATS:
            raise ConfigError(
                f"PredictionWriter(format=) must be one of {tuple(_FORMATS)} or a function, got {format!r}.",
                hint="def writer(run, prediction, batch, index): ...",
            )
        if own and write_interval != "batch":
            raise ConfigError(
                "PredictionWriter(format=) with a function writes every batch, so write_interval='epoch' has no"
                " effect.",
                hint='write_interval="batch"; trainer.predict returns all predictions.',
            )
        self.folder = user_path(folder)
        self.write_interval = write_interval
        self.format = format
        self.paths: list[Path] = []
        self._root = self.folder
        self._owner = _OWNER
        self._files = Ledger()
        self.reset_state()

    def reset_state(self) -> None:
        """Forget the batches of the prediction before; ``paths`` stay until the next one."""
        self._counts: dict[str | None, int] = {}
        self._kept: dict[str | None, list[Any]] = {}

    # --- predicting ---------------------------------------------------------------------------------------------------

    def on_predict_start(self, run: RunContext) -> None:
        """Refuse a folder in which other files have the names to come."""
        self.reset_state()
        self.paths = []
        self._root = Path.cwd() / self.folder  # a later os.chdir must not split its files
        self._owner = f"{_OWNER} {os.path.abspath(self._root)}"  # noqa: PTH100 - two ways to a folder are one owner
        if callable(self.format) or (self.write_interval == "epoch" and run.rank):
            return  # it writes none of its own
        pattern = re.compile(self._pattern(run))
        for path in sorted(self._root.rglob("*")) if self._root.is_dir() else ():
            if pattern.fullmatch(path.name) and not self._files.owns(path, self._owner):
                raise self._occupied(path)

    def on_predict_batch_end(self, run: RunContext) -> None:
        """Write the batch, or keep it for the end."""
        loader = run.loader_name
        index = self._counts[loader] = self._counts.get(loader, -1) + 1
        prediction = to_device(run.prediction, _CPU)
        if callable(self.format):
            self.format(run, prediction, run.batch, index)
        elif self.write_interval == "batch":
            rank = f"rank-{run.rank}-" if run.world_size > 1 else ""
            self._write(loader, f"{rank}batch-{index:05}", [prediction], whole=False)
        else:
            _FORMATS[self.format]([prediction], whole=False)  # what does not fit is refused at once
            self._kept.setdefault(loader, []).append(prediction)

    def on_predict_end(self, run: RunContext) -> None:
        """Write what was kept, and remove what the prediction before left."""
        if self.write_interval == "epoch":
            parts: list[dict[str | None, list[Any]]] = run.team.all_gather_object(self._kept)
            self._kept = {}
            loaders = dict.fromkeys(itertools.chain(*parts))
            for loader in loaders if run.rank == 0 else ():
                self._write(loader, "predictions", [one for part in parts for one in part.get(loader, [])], whole=True)
        told: list[tuple[str, Notes]] = run.team.all_gather_object((self._owner, self._files.notes(self.paths)))
        now = {path: note for _, own in told for path, note in own.items()}
        for owner in dict.fromkeys(owner for owner, _ in told):  # what is in another folder stays
            for path in self._files.written_by(owner) - now.keys():
                if run.rank == 0:
                    self._files.remove(Path(path), owner)
                self._files.forget(Path(path))
        self._files.add(now)  # each knows the files of all

    def known(self) -> dict[str, Any]:
        """Return what another process needs to know these files as this writer's."""
        return {"paths": self.paths, "_files": self._files}

    # --- files --------------------------------------------------------------------------------------------------------

    def _pattern(self, run: RunContext) -> str:
        rank = rf"rank-{run.rank}-" if run.world_size > 1 else ""
        name = rf"{rank}batch-\d+" if self.write_interval == "batch" else "predictions"
        return rf"{name}\.{self.format}"

    def _write(self, loader: str | None, name: str, predictions: list[Any], *, whole: bool) -> None:
        assert isinstance(self.format, str)  # noqa: S101 - for the type checker
        content = _FORMATS[self.format](predictions, whole=whole)
        folder = self._root if loader is None else self._root / loader
        path = folder / f"{name}.{self.format}"
        with failing_as(UnitrainError, path):
            try:
                with written(path, new=not self._files.owns(path, self._owner)) as file:
                    file.write(content)
            except FileExistsError as error:
                if not path.exists():
                    raise  # a file is in place of the folder
                raise self._occupied(path) from error
        self.paths.append(path)
        self._files.wrote(path, self._owner)

    def _occupied(self, path: Path) -> ConfigError:
        return ConfigError(
            f"PredictionWriter: {path} already exists and was not written by this writer.", hint="use another folder."
        )


# --- formats ----------------------------------------------------------------------------------------------------------


def _as_pt(predictions: list[Any], *, whole: bool) -> bytes:
    """Return what ``torch.load`` reads; of a tensor that is a part of a larger one, only the part."""
    alone = Mapped(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf)
    buffer = io.BytesIO()
    torch.save(alone(predictions if whole else predictions[0]), buffer)
    return buffer.getvalue()


def _as_npy(predictions: list[Any], *, whole: bool) -> bytes:  # noqa: ARG001 - one signature
    import numpy as np  # noqa: PLC0415 - only where arrays are written

    buffer = io.BytesIO()
    np.save(buffer, _joined([_array(one, "npy") for one in predictions]), allow_pickle=False)
    return buffer.getvalue()


def _as_csv(predictions: list[Any], *, whole: bool) -> bytes:  # noqa: ARG001 - one signature
    tables = [_columns(one) for one in predictions]
    header = list(tables[0])
    if any(list(one) != header for one in tables):
        raise SpecError(
            "PredictionWriter(format='csv'): the predictions of different batches have different columns.", hint=_HINT
        )
    buffer = io.StringIO()
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(header)
    for table in tables:
        rows.writerows(zip(*table.values(), strict=True))
    return buffer.getvalue().encode()


_FORMATS: Final = {"pt": _as_pt, "npy": _as_npy, "csv": _as_csv}
"""``(predictions, whole) -> bytes``; ``whole`` is True for all predictions of an epoch, False for one batch."""
_HINT: Final = 'use format="pt", which accepts anything, or return another structure from predict_step(model, batch).'


def _array(value: Any, form: str) -> np.ndarray[Any, Any]:
    import numpy as np  # noqa: PLC0415 - only where arrays are written

    fits = isinstance(value, np.ndarray) or (isinstance(value, Tensor) and value.dtype is not torch.bfloat16)
    if not fits:
        raise SpecError(f"PredictionWriter(format={form!r}) cannot write {describe(value)}.", hint=_HINT)
    return value.detach().numpy() if isinstance(value, Tensor) else value


def _joined(arrays: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    import numpy as np  # noqa: PLC0415 - only where arrays are written

    try:
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    except ValueError as error:
        raise SpecError(
            f"PredictionWriter(format='npy'): the predictions of different batches cannot be concatenated: {error}.",
            hint=_HINT,
        ) from error


def _columns(value: Any) -> dict[str, list[Any]]:
    """Return the columns of a batch's prediction, by name."""
    if not isinstance(value, Mapping):
        return dict(_of_table("", value, value))
    found = dict(itertools.chain(*(_of_table(str(name), one, value) for name, one in value.items())))
    if not found or len({len(column) for column in found.values()}) > 1:
        raise SpecError(f"PredictionWriter(format='csv') needs one row per sample; got {describe(value)}.", hint=_HINT)
    return found


def _of_table(name: str, value: Any, whole: Any) -> Iterator[tuple[str, list[Any]]]:
    array = _array(value, "csv")
    if array.ndim not in (1, _TWO_DIMENSIONS):
        raise SpecError(f"PredictionWriter(format='csv') needs one row per sample; got {describe(whole)}.", hint=_HINT)
    if array.ndim == 1:
        yield name or "0", array.tolist()
        return
    for index, column in enumerate(array.T):
        yield f"{name}.{index}" if name else str(index), column.tolist()
