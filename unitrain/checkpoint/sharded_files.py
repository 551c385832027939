"""Sharded checkpoints: a folder into which each process writes its shards.

``index.json`` names the folder with the data, which holds ``tree.ckpt``, the portable content with a note for each
tensor in parts, and a file of each rank with its parts. The index is written last and replaced in one piece, so a kill
at any instant leaves the old checkpoint or the new one. All files are read with ``weights_only``.
torch.distributed.checkpoint was not taken: the index of its folders is a pickle, which runs code when it is read.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unitrain.checkpoint import io
from unitrain.checkpoint.gate import restored
from unitrain.checkpoint.integrity import is_folder, require_file
from unitrain.distributed.strategies.dtensors import each_part
from unitrain.errors import DISTRIBUTION, CheckpointError
from unitrain.utilities.files import claimed, failing_as, is_claimed, refuse_existing, user_file
from unitrain.utilities.ledger import DATA, INDEX, TREE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from unitrain.distributed.collectives import Collectives

FORMAT = 1
_INDEX, _TREE, _PREFIX = INDEX, TREE, "data-"
_NOTE = "unitrain.in_parts"
"""The key of the placeholder of a sharded tensor."""
_OF = "unitrain.data"
"""The key of the name that all files of one checkpoint hold."""


def write(folder: Path, content: dict[str, Any], team: Collectives) -> None:
    """Write ``content`` to ``folder``; all processes take part, over a file system that they share.

    Raises:
        CheckpointError: If a process cannot write; an existing checkpoint is unchanged.
    """
    name: str = team.all_gather_object(f"{_PREFIX}{uuid.uuid4().hex}")[0]
    held: dict[str, dict[str, Any]] = {}

    def note(part: Tensor) -> dict[str, Any]:
        key = str(len(held))
        held[key] = _held(part)
        return {_NOTE: key, "shape": list(part.shape)}

    tree = each_part(content, note)
    own = _Own(folder, name)
    _together(team, lambda: own.claim() if team.rank == 0 else None)
    with own.kept() if team.rank == 0 else nullcontext():
        _together(team, lambda: _write_own(folder / name, tree, held, team.rank))
        if team.rank == 0:
            index = {"format": FORMAT, "ranks": team.size, "data": name}
            io.write_by(folder / _INDEX, lambda file: file.write(json.dumps(index).encode()))
    if team.rank == 0:
        _remove_older(folder)
    team.barrier()


class _Own:
    """The data folder that this run is writing, which other processes writing into the same folder do not touch.

    Args:
        folder: The checkpoint.
        name: Name of the data folder in it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name

    def claim(self) -> None:
        """Mark the data as being written.

        Raises:
            CheckpointError: If the folder contains other files, or cannot be written.
        """
        _refuse_foreign(self._folder)
        self._was_there = self._folder.exists()
        with failing_as(CheckpointError, self._folder):
            self._claim = claimed(self._folder / self._name)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Remove incomplete data after an error; data that the index already names is kept."""
        complete = False
        try:
            yield
            complete = True
        finally:
            if not complete and not _may_name(self._folder, self._name):
                shutil.rmtree(self._folder / self._name, ignore_errors=True)
            if self._claim is not None:
                self._claim.release()
            if not complete and not self._was_there:
                with suppress(OSError):
                    self._folder.rmdir()


def _remove_older(folder: Path) -> None:
    """Remove data that the index does not name, except what another process is writing.

    A process writes its index before it releases its data. So the index is read after checking who is still writing.
    """
    with suppress(OSError, CheckpointError):  # another process may have removed the whole
        found = [one for one in folder.iterdir() if DATA.fullmatch(one.name) and not is_claimed(one)]
        named = _index(folder)["data"]
        for one in found:
            if one.name != named:
                shutil.rmtree(one, ignore_errors=True)


def _may_name(folder: Path, name: str) -> bool:
    """Return whether the index names the data; if it cannot be read, the data is kept."""
    try:
        return bool(_index(folder)["data"] == name)
    except CheckpointError:
        return os.path.lexists(folder / _INDEX)


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder that contains anything other than a complete checkpoint."""
    try:
        strange = next((one.name for one in folder.iterdir() if not _is_piece(one)), None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error}.", hint="pass the path of a folder.") from error
    if strange is not None:
        raise CheckpointError(
            f"{folder} contains other files than a checkpoint: {strange}.",
            hint="pass a new folder; it will be created.",
        )


def _is_piece(path: Path) -> bool:
    if path.name == _INDEX:
        with suppress(CheckpointError):
            return bool(_index(path.parent))
        return False
    return path.name.startswith(".") or DATA.fullmatch(path.name) is not None


def _write_own(data: Path, tree: dict[str, Any], held: dict[str, Any], rank: int) -> None:
    if rank == 0:
        io.write(data / _TREE, {**tree, _OF: data.name})
    io.write(data / _of_rank(rank), {**held, _OF: data.name})


def _of_rank(rank: int) -> str:
    return f"rank-{rank}.ckpt"


def _together(team: Collectives, work: Any) -> None:
    """Do ``work`` on all processes, and raise on all if it raises on one."""
    failure = None
    try:
        work()
    except CheckpointError as error:
        failure = error
    said = team.all_gather_object(None if failure is None else str(failure))
    if failure is not None:
        raise failure
    broken = next((rank for rank, text in enumerate(said) if text is not None), None)
    if broken is not None:
        raise CheckpointError(f"rank {broken}: {said[broken]}")


def _held(part: Tensor) -> dict[str, Any]:
    """Return this process's shard of a tensor, and its offset."""
    from torch.distributed.tensor._utils import (  # noqa: PLC0415 - as torch's own checkpoints
        compute_local_shape_and_global_offset,
    )

    made: Any = part
    _, offset = compute_local_shape_and_global_offset(made.shape, made.device_mesh, made.placements)
    return {"at": list(offset), "values": made.to_local().detach().cpu().clone()}


def read_any(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, a file or a sharded folder, whole and on the CPU.

    Raises:
        CheckpointError: If it does not exist or is damaged.
    """
    return read(path) if is_folder(path) else restored(io.read(path))


def read(folder: Path) -> dict[str, Any]:
    """Return the content of the checkpoint in ``folder``, whole and on the CPU; no process group is needed.

    Raises:
        CheckpointError: If it is not a checkpoint, or is damaged.
    """
    tree, held = _pieces(folder)
    try:
        content: dict[str, Any] = _filled(tree, held, {})
    except (KeyError, IndexError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: its shards do not match: {error}",
            hint="use an older checkpoint.",
        ) from error
    return restored(content)


def _pieces(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the contents of the files in ``folder``; if the checkpoint is replaced meanwhile, read again."""
    index = _index(folder)
    data = folder / index["data"]
    try:
        tree, *held = [io.read(data / name) for name in (_TREE, *map(_of_rank, range(index["ranks"])))]
    except CheckpointError:
        if _index(folder) == index:
            raise
        return _pieces(folder)
    names = {one.pop(_OF, None) for one in (tree, *held)}  # None in those of an older release
    if len(names) > 1:
        raise CheckpointError(
            f"the checkpoint {folder} is damaged: its files are of different checkpoints.",
            hint="use an older checkpoint.",
        )
    return tree, held


def _index(folder: Path) -> dict[str, Any]:
    if os.path.exists(folder / _INDEX):  # noqa: PTH110 - Path.exists() raises where a folder may not be entered
        require_file(folder / _INDEX)  # to read a named pipe would wait for ever
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        name, ranks, number = index["data"], int(index["ranks"]), int(index["format"])
        known = isinstance(name, str) and name.startswith(_PREFIX) and Path(name).name == name and ranks > 0
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint, or is incomplete: it has no valid {_INDEX} ({error}).",
            hint="pass a folder written by save_checkpoint(folder, sharded=True), or a file.",
        ) from error
    if number > FORMAT:
        raise CheckpointError(
            f"{folder} has format {number}; this unitrain reads up to {FORMAT}.",
            hint=f"pip install --upgrade {DISTRIBUTION}",
        )
    if not known:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {_INDEX} refers to the data folder {name!r}.")
    return {"data": name, "ranks": ranks}


def _filled(value: Any, held: list[dict[str, Any]], made: dict[str, Tensor]) -> Any:
    """Return ``value`` with whole tensors instead of notes."""
    if isinstance(value, dict) and _NOTE in value:
        key = value[_NOTE]
        if key not in made:
            made[key] = _assembled(value["shape"], [own[key] for own in held])
        return made[key]
    if isinstance(value, dict):
        changed = {key: _filled(one, held, made) for key, one in value.items()}
        return changed if type(value) is dict else type(value)(changed)
    if isinstance(value, (list, tuple)):
        return type(value)([_filled(one, held, made) for one in value])
    return value


def _assembled(shape: list[int], pieces: list[dict[str, Any]]) -> Tensor:
    full = torch.empty(shape, dtype=pieces[0]["values"].dtype)
    missing = torch.ones(shape, dtype=torch.bool)
    for piece in pieces:
        where = tuple(
            slice(start, start + length) for start, length in zip(piece["at"], piece["values"].shape, strict=True)
        )
        if piece["values"].numel():
            full[where] = piece["values"]
            missing[where] = False
    if missing.any():
        raise KeyError("a shard is missing")
    return full


def consolidate(folder: str | Path, path: str | Path, *, overwrite: bool = False) -> None:
    """Merge the sharded checkpoint in ``folder`` into one portable file, which loads on any number of processes.

    Args:
        folder: The folder written by ``save_checkpoint(folder, sharded=True)``.
        path: The file to write.
        overwrite: Whether to replace an existing file ``path``.

    Raises:
        CheckpointError: If the folder is not a valid checkpoint, or the file cannot be written or already exists.
    """
    target = user_file(path, "path", CheckpointError)
    refuse_existing(
        target, CheckpointError, overwrite=overwrite, hint="use overwrite=True to replace it, or pass another path."
    )
    io.write(target, read(user_file(folder, "folder", CheckpointError)))
