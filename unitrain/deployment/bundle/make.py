"""``unitrain.bundle``: writes a bundle."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Unpack

from unitrain.deployment.bundle import archive as tar
from unitrain.deployment.bundle.bundle import Bundle, of_folder
from unitrain.deployment.bundle.contracts import CONTRACTS, require_target
from unitrain.deployment.bundle.facts import Card, Facts
from unitrain.deployment.bundle.manifest import ARCHIVE, MANIFEST, text_of
from unitrain.deployment.bundle.names import name_of, require_name
from unitrain.deployment.bundle.origin import training_of
from unitrain.deployment.bundle.place import alone, put, require_place
from unitrain.deployment.bundle.verify import sha256_of
from unitrain.errors import DeployError, ExportError, complete_call, refuse_unknown
from unitrain.export.request import OTHER_NAMES, ExportOptions
from unitrain.utilities.files import failing_as, require_folder, user_file, workspace

_FOLDER: Final = "model"
_FILE: Final = "model"
_SUFFIXES: Final = (".onnx", ".pt2", ".pt", ".ts", ".torchscript")
_EXTERNAL: Final = "External data"
"""What onnxruntime calls weights in other files."""
_MAX_BATCH: Final = 64
"""As the service has it; the model is tried with one row and with so many."""


@dataclass(frozen=True)
class _Order:
    """What is to be packed.

    Attributes:
        model: An exported file, or a trainer.
        name: Under which it is served.
        target: The platform.
        archive: Whether the tar is written too.
        card: What was told of the model.
        export: The options of a trainer's export.
    """

    model: Path | Any
    name: str
    target: str
    archive: bool
    card: Card
    export: Mapping[str, Any]


@complete_call(DeployError, 'unitrain.bundle("model.onnx", "folder")')
def bundle(
    model: str | Path | Any,
    folder: str | Path,
    *,
    target: str = "docker",
    archive: bool = False,
    name: str | None = None,
    licence: str | None = None,
    data: str | None = None,
    metrics: Mapping[str, float] | None = None,
    **export: Unpack[ExportOptions],
) -> Bundle:
    """Pack a model with all that serves it into a folder, the same bytes for the same model.

    Only what is listed in the bundle's manifest is written: nothing of the folder around the model, and nothing of the
    environment.

    Args:
        model: The path of an exported file (``.onnx``, ``.pt2``, TorchScript), or a trainer after a fit, which is
            exported to ONNX first.
        folder: The folder to write. An unchanged bundle there is replaced at once; anything else is kept and refused.
        target: ``"docker"``, ``"kserve"``, ``"sagemaker"`` or ``"vertex"``.
        archive: Whether to write ``model.tar.gz`` too, as SageMaker takes it.
        name: The model's name, at most 40 lower-case letters, digits and hyphens; by default from the file's name.
        licence: The model's licence as an SPDX expression, for ``MODEL_CARD.md``.
        data: The data it was trained on, in a few words, for ``MODEL_CARD.md``.
        metrics: What it reached, such as ``trainer.fit(...).metrics``, for ``MODEL_CARD.md``.
        **export: For a trainer, the options of its export, such as ``example_input=``.

    Returns:
        The bundle: ``path``, ``digest``, ``check()``.

    Raises:
        DeployError: If an argument is invalid or the folder holds something else; nothing is written then.
        ExportError: If the model cannot be exported or served.

    Example:
        >>> _ = export_module(torch.nn.Linear(4, 3), "digits.onnx", example_input=torch.randn(8, 4))
        >>> made = bundle("digits.onnx", "out", target="sagemaker")
        >>> made.name, made.target, made.model_file.name
        ('digits', 'sagemaker', 'model.onnx')
    """
    target = require_target(target)
    source = _model(model, export)
    order = _Order(
        source,
        require_name(name) if name is not None else name_of(source) if isinstance(source, Path) else _FILE,
        target,
        _flag("archive", archive),
        Card(
            _words("licence", licence),
            _words("data", data),
            _numbers(metrics),
            {} if isinstance(source, Path) else training_of(source),
        ),
        export,
    )
    place = user_file(folder, "folder", DeployError)
    require_folder(DeployError, place.parent)
    require_place(place)
    with failing_as(DeployError, place), alone(place), workspace(place) as around:
        made = around / "bundle"
        _write(order, made)
        put(made, place)
    return of_folder(place)


def _model(given: Any, export: Mapping[str, Any]) -> Any:
    """Return a trainer, or the path of an exported file.

    Raises:
        DeployError: If it is neither.
    """
    if callable(getattr(given, "export", None)):  # a trainer
        refuse_unknown(export, ExportOptions.__annotations__, "bundle()", DeployError, OTHER_NAMES)
        if getattr(given, "_world", None) is not None:
            hint = 'trainer.export("model.onnx"), then unitrain.bundle("model.onnx", "out") in one process'
            raise DeployError("bundle() of a trainer is for a single process.", hint=hint)
        return given
    path = user_file(given, "model", DeployError)
    refuse_unknown(export, (), "bundle() of a file", DeployError)
    if path.suffix not in _SUFFIXES:
        raise DeployError(
            f"{path.name!r} cannot be bundled: the suffix must be one of {', '.join(_SUFFIXES)}.",
            hint="a checkpoint is exported first: unitrain export run.ckpt model.onnx --model train:make_spec",
        )
    if not path.is_file():
        raise DeployError(f"{path} is not a file.", hint='trainer.export("model.onnx") writes one.')
    return path


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise DeployError(f"{name}= must be True or False; got {value!r:.80}.", hint=f"{name}=True")
    return value


def _words(name: str, value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise DeployError(f"{name}= must be a text; got {value!r:.80}.", hint=f"omit {name}= if it is not known.")
    return value


def _numbers(given: Any) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise DeployError(f"metrics= must be numbers by name; got {given!r:.80}.", hint='metrics={"val/acc": 0.97}')
    for name, value in given.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, (int, float)):
            raise DeployError(
                f"metrics= must be numbers by name; got {name!r:.80}: {value!r:.80}.", hint="float(value) of a tensor."
            )
    return {name: value if math.isfinite(value) else float(value) for name, value in sorted(given.items())}


def _write(order: _Order, made: Path) -> None:
    """Write the files, the manifest last, and the archive."""
    from unitrain.deployment.bundle.contents import contents, manifest_of  # noqa: PLC0415 - reads the sources of unitrain

    (made / _FOLDER).mkdir(parents=True)
    facts = _tried(order, _model_file(order, made / _FOLDER), made)
    for name, content in contents(facts).items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    names = sorted(one.relative_to(made).as_posix() for one in made.rglob("*") if one.is_file())
    files = {name: {"sha256": sha256_of(made / name), "size": (made / name).stat().st_size} for name in names}
    (made / MANIFEST).write_bytes(text_of(manifest_of(facts, files)))
    for name in (*names, MANIFEST):
        (made / name).chmod(tar.mode_of(name))
    if order.archive:
        with (made / ARCHIVE).open("xb") as file:
            tar.write(made, files, file)


def _model_file(order: _Order, folder: Path) -> Path:
    """Put the model into the bundle, and return its path."""
    if not isinstance(order.model, Path):
        path = folder / f"{_FILE}.onnx"
        order.model.export(path, **order.export)
        return path
    path = folder / f"{_FILE}{order.model.suffix}"
    shutil.copyfile(order.model, path)
    return path


def _tried(order: _Order, file: Path, made: Path) -> Facts:
    """Load the copy, run it on its example, and return what is known of it.

    Raises:
        ExportError: If it cannot be served.
        DeployError: If a package is missing, or the weights are in other files.
    """
    from unitrain.deployment.bundle.packages import packages_for  # noqa: PLC0415 - as below
    from unitrain.serving.models.loaded import load  # noqa: PLC0415 - needs the packages that serve
    from unitrain.serving.options import require_installed  # noqa: PLC0415

    require_installed()
    try:
        loaded = load(order.name, file, threads=1, max_batch=_MAX_BATCH)
    except ExportError as error:
        if _EXTERNAL not in str(error):
            raise
        raise DeployError(
            "the model keeps its weights in other files; a bundle takes one file.",
            hint='onnx.save(onnx.load("model.onnx"), "whole.onnx") writes one, up to 2 GB.',
        ) from error
    return Facts(
        name=order.name,
        contract=CONTRACTS[order.target],
        file=file.relative_to(made).as_posix(),
        format=loaded.model.format,
        sha256=loaded.sha256,
        signature=loaded.signature,
        metadata=loaded.model.metadata,
        packages=packages_for(loaded.model.format),
        card=order.card,
    )
