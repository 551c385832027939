"""``unitrain init [FOLDER] [--from TEMPLATE]``: write a small project that runs at once."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping  # noqa: TC003 - NamedTuple reads it
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template as Text
from typing import TYPE_CHECKING, NamedTuple

from unitrain.cli.doctor.examination import backends
from unitrain.errors import ConfigError
from unitrain.utilities.files import failing_as, user_path

if TYPE_CHECKING:
    import argparse
    from importlib.resources.abc import Traversable


class Template(NamedTuple):
    """What a project may begin from: a folder of ``templates/``.

    Attributes:
        summary: What it does.
        words: Its words in the files of ``common/``, where ``$name`` stands for them.
    """

    summary: str
    words: Mapping[str, str]


TEMPLATES = {
    "digits": Template(
        "classify images of digits, which the project draws",
        {"imported": "digits", "data": "digits(train_size=64)", "net": "Net(width=4)", "loss": "CrossEntropyLoss"},
    ),
    "tabular": Template(
        "predict a number from the rows of a CSV file",
        {"imported": "FEATURES, rides", "data": "rides()", "net": "Net(FEATURES, width=4)", "loss": "MSELoss"},
    ),
    "text": Template(
        "predict the next character of a text",
        {"imported": "characters", "data": "characters()", "net": "Net(width=8)", "loss": "CrossEntropyLoss"},
    ),
}
"""What a project may begin from, by name."""

_COMMON = "common"
_NAMES = {"gitignore": ".gitignore", "test_training.txt": "test_training.py"}
"""Files with another name in the package: tools would read the ignored files of a real one, and check the code."""

_CONFIGURATION = "run.yaml"
_FRAMEWORK = re.compile(r"^framework: (\w+)$", re.MULTILINE)

_DESCRIPTION = f"""\
Write a small project that runs at once: a model, data, a configuration, a test and a README. It needs no download, and
no file is overwritten.

{chr(10).join(f"  {name:<9} {one.summary}" for name, one in TEMPLATES.items())}
"""

_EPILOG = """\
examples:
  unitrain init demo
  unitrain init demo --from text
  unitrain init                       # in the current folder

exit status:
  0  the project was written
  1  the folder has files of these names, or cannot be written; nothing was written
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="where to write; default: here")
    parser.add_argument(
        "--from", dest="template", choices=list(TEMPLATES), default="digits", help="what to begin from; default: digits"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the project, and print what to do next.

    Returns:
        The exit status.

    Raises:
        ConfigError: If the folder has files of these names, or cannot be written; nothing is written then.
    """
    project = Project.of(arguments.template)
    write(project, user_path(arguments.folder))
    print(_next_steps(arguments.folder, project))  # noqa: T201 - that is its output
    return 0


@dataclass(frozen=True)
class Project:
    """The contents of a new project.

    Attributes:
        files: The contents of each file, by name.
        framework: The backend in its configuration.
        others: Further backends that are installed.
    """

    files: Mapping[str, bytes]
    framework: str
    others: tuple[str, ...]

    @classmethod
    def of(cls, template: str) -> Project:
        """Return a project of a template, for the backends that are installed."""
        found = _read(template)
        text = found[_CONFIGURATION].decode()
        wanted = _FRAMEWORK.search(text)
        assert wanted is not None  # noqa: S101 - a test checks the templates
        ready = [one.name for one in backends() if one.ready]
        framework = wanted[1] if wanted[1] in ready else ready[0]
        found[_CONFIGURATION] = _FRAMEWORK.sub(f"framework: {framework}", text).encode()
        return cls(found, framework, tuple(one for one in ready if one != framework))


def _read(template: str) -> dict[str, bytes]:
    """Return the contents of the files of a template, by the name that each gets."""
    common, own = (_contents(name) for name in (_COMMON, template))
    words = TEMPLATES[template].words
    shared = {name: Text(content.decode()).substitute(words).encode() for name, content in common.items()}
    return dict(sorted({**shared, **own}.items()))


def _contents(folder: str) -> dict[str, bytes]:
    there = (files(__package__) / "templates" / folder).iterdir()
    return {_NAMES.get(one.name, one.name): one.read_bytes() for one in there if _belongs(one)}


def _belongs(there: Traversable) -> bool:
    return there.is_file() and not there.name.endswith(".pyc")


def write(project: Project, folder: Path) -> None:
    """Write a project into a folder, which is created.

    Raises:
        ConfigError: If a file is there already, or one cannot be written; nothing is written then.
    """
    there = sorted(name for name in project.files if os.path.lexists(folder / name))
    if there:
        raise ConfigError(
            f"{folder} already has {', '.join(there)}; unitrain init overwrites nothing.",
            hint="choose another folder: unitrain init FOLDER",
        )
    written: list[Path] = []
    try:
        with failing_as(ConfigError, folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name, contents in project.files.items():
                with (folder / name).open("xb") as file:  # another process may have written it since
                    written.append(folder / name)
                    file.write(contents)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _next_steps(folder: str, project: Project) -> str:
    """Return what to do next, as lines of a shell."""
    fit = f"unitrain fit --config {_CONFIGURATION}"
    steps = [] if Path(folder) == Path() else [(f"cd {shlex.quote(folder)}", "")]
    steps.append((fit, f"train on {project.framework!r}"))
    if project.others:
        steps.append((f"{fit} --framework {project.others[0]}", f"train the same on {project.others[0]!r}"))
        steps.append((f"unitrain compare --config {_CONFIGURATION}", "compare the backends, bit by bit"))
    steps.append(("pytest", "one step on each backend"))
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command:<{width}}  # {why}" if why else f"  {command}" for command, why in steps]
    where = "the current folder" if Path(folder) == Path() else folder
    return "\n".join([f"Wrote {', '.join(project.files)} to {where}.", "", "Next:", *lines])
