"""``unitrain bundle``: packs an exported model, or checks a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.deployment.bundle.contracts import CONTRACTS
from unitrain.deployment.bundle.make import bundle
from unitrain.errors import DeployError

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Pack MODEL, a file that `unitrain export` or trainer.export wrote, or an .onnx of another program, into FOLDER with all
that serves it. The same model gives the same bytes. With --check, start the bundle in FOLDER as each platform does, ask
it for predictions, and stop it.
"""

_EPILOG = """\
for SageMaker, with the archive that it takes:
  unitrain bundle digits.onnx out --target sagemaker --archive

an image for any container platform:
  unitrain bundle digits.onnx out && docker build --tag digits out

try a bundle without Docker, with the packages of this Python; this runs code of the bundle:
  unitrain bundle --check out

exit status:
  0  the bundle was written, or behaves as each platform expects
  1  something is invalid or could not be written, or a check failed
  2  an option is unknown or lacks its value
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", help="the exported file: .onnx, .pt2, .pt")
    add("folder", metavar="FOLDER", help="the folder to write or to check; with --check, also an archive")
    add("--check", action="store_true", help="check the bundle in FOLDER")
    add("--target", choices=list(CONTRACTS), help="the platform; default: docker")
    add("--archive", action="store_true", help="write model.tar.gz too, as SageMaker takes it")
    add("--name", metavar="NAME", help="the name of the model; default: from the name of the file")
    add("--licence", metavar="SPDX", help="the licence of the model, for MODEL_CARD.md")
    add("--data", metavar="TEXT", help="what it was trained on, for MODEL_CARD.md")


def run(arguments: argparse.Namespace) -> int:
    """Write or check a bundle, and return the exit status.

    Raises:
        UnitrainError: If something is invalid or cannot be written.
    """
    options = {key: getattr(arguments, key) for key in ("target", "archive", "name", "licence", "data")}
    given = {key: value for key, value in options.items() if value not in (None, False)}
    if arguments.check:
        return _check(arguments, sorted(given))
    if arguments.model is None:
        raise DeployError("MODEL or FOLDER is missing.", hint="unitrain bundle model.onnx out")
    made = bundle(arguments.model, arguments.folder, **given)
    print(made.archive or made.path)  # noqa: T201 - a command
    print(f"{made.name} for {made.target}, sha256 {made.digest}")  # noqa: T201
    return 0


def _check(arguments: argparse.Namespace, given: list[str]) -> int:
    if arguments.model is not None or given:
        extra = "MODEL" if arguments.model is not None else f"--{given[0]}"
        raise DeployError(f"--check takes only FOLDER; got {extra} too.", hint="unitrain bundle --check out")
    report = read_bundle(arguments.folder).check()
    print(report)  # noqa: T201
    return 0 if report.passed else 1
