"""``unitrain run SCRIPT --framework NAME [-- ARGUMENTS]``: run a script of one framework, as it is, on another."""

from __future__ import annotations

import runpy
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from unitrain.backends.features import refuse
from unitrain.backends.protocol import Feature
from unitrain.backends.registry import adapter_names, bridges, find_adapter
from unitrain.compat.blocked import check_blocked
from unitrain.errors import ConfigError, UnitrainError
from unitrain.utilities.files import user_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from unitrain.backends.protocol import Adapter

REFUSED = 1
"""The exit status if something cannot act on the chosen backend."""

NOTHING_RAN = 4
"""The exit status of a script of which nothing ran on the chosen backend."""

DESCRIPTION = """\
Run a script that is written for Lightning or for Ignite, as it is, and let the training that it starts run on
another engine. The script is not changed, nor is anything written beside it.

  a Lightning script   Trainer.fit, validate, test and predict run on the framework you name
  an Ignite script     Engine.run does; handlers, metrics and filters are the script's own
"""

EPILOG = """\
examples:
  unitrain run train.py --framework ignite
  unitrain run train.py --framework lightning --epochs 3 --lr 0.01
  unitrain run train.py --framework reference      # the bare PyTorch loop: what a step should do

What is not an option of `unitrain run` is the script's: it finds it in sys.argv. After `--` everything is the script's,
--framework too. The working folder stays the same.

exit status:
  0  the script ran to its end, and its training ran on the framework that was named
  1  something in it cannot act there; what, where and the mend are told before anything trains
  4  it ran to its end, but nothing of it ran on the framework that was named
  other: the script's own, as is an exception that it raises
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell the command line what this command takes."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.usage = "unitrain run [-h] --framework NAME SCRIPT [ARGUMENTS]"
    parser.add_argument("script", metavar="SCRIPT", help="a Python file, as `python SCRIPT` would run it")
    parser.add_argument("--framework", required=True, metavar="NAME", help=f"the engine: {', '.join(adapter_names())}")


def run(arguments: argparse.Namespace) -> int:
    """Run the script.

    Returns:
        The exit status.

    Raises:
        UnitrainError: If there is no such script or no such framework, or a release is installed that is malicious.
    """
    script = _found(arguments.script)
    check_blocked()  # the script would import it by itself
    adapter = find_adapter(arguments.framework)
    if Feature.NATIVE_CODE not in adapter.features:
        raise refuse(adapter, Feature.NATIVE_CODE, "a script of another framework", "a framework that does")
    witness = _Witness(adapter.packages or (type(adapter).__module__,))
    try:
        with _redirected(adapter), witness.watching():
            _run_as_main(script, arguments.rest)
    except UnitrainError as error:
        print(f"unitrain run: {error}\n{_place(error, script)}", file=sys.stderr)  # noqa: T201 - that is its output
        return REFUSED
    if witness.seen:
        return 0
    print(f"unitrain run: {_what_was_missed(witness, script, adapter)}", file=sys.stderr)  # noqa: T201
    return NOTHING_RAN


def _found(script: str) -> Path:
    path = user_path(script)
    if path.is_file() and path.suffix == ".py":
        return path
    found = "no such file" if not path.exists() else "it is a folder" if path.is_dir() else "it is no Python file"
    raise ConfigError(
        f"SCRIPT must be a Python file; got {script!r}: {found}.",
        hint="unitrain run path/to/train.py --framework ignite",
    )


@contextmanager
def _redirected(adapter: Adapter) -> Iterator[None]:
    """Let the scripts of each framework that is installed train on ``adapter``."""
    with ExitStack() as stack:
        for bridge in bridges():
            stack.enter_context(bridge.redirected(adapter.name))
        yield


def _run_as_main(script: Path, arguments: Sequence[str]) -> None:
    """Run the script as ``python SCRIPT ARGUMENTS`` does.

    Raises:
        SystemExit: If the script ends with a status that says it failed.
    """
    argv, path = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    finally:
        sys.argv, sys.path[:] = argv, path


@dataclass
class _Witness:
    """Looks who calls when something is computed, until it has seen the engine that was asked for.

    Attributes:
        engine: The packages or modules of that engine.
        seen: Whether it ran anything.
        elsewhere: Whether anything was computed before that.
    """

    engine: tuple[str, ...]
    seen: bool = False
    elsewhere: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at each optimizer's step and each module's forward pass within."""
        hooks: list[Any] = []

        def look(*_: object) -> None:
            self.seen = self._is_calling()
            self.elsewhere = True
            if self.seen:  # from here on it costs nothing
                while hooks:
                    hooks.pop().remove()

        hooks += [register_optimizer_step_post_hook(look), register_module_forward_pre_hook(look)]
        try:
            yield
        finally:
            while hooks:
                hooks.pop().remove()

    def _is_calling(self) -> bool:
        """Return whether the engine is among the callers."""
        frame = sys._getframe()  # noqa: SLF001 - the only way to see who calls
        while frame is not None and not self._owns(str(frame.f_globals.get("__name__"))):
            frame = frame.f_back  # type: ignore[assignment]
        return frame is not None

    def _owns(self, module: str) -> bool:
        return any(module == one or module.startswith(f"{one}.") for one in self.engine)


def _place(error: BaseException, script: Path) -> str:
    """Return the line of the script that led to ``error``."""
    place, line = error.__traceback__, 0
    while place is not None:
        if place.tb_frame.f_code.co_filename == str(script):
            line = place.tb_lineno
        place = place.tb_next
    return f"  at {script}:{line}"


def _what_was_missed(witness: _Witness, script: Path, adapter: Adapter) -> str:
    if witness.elsewhere:
        return (
            f"{script} computed something, but nothing of it on the engine of {adapter.name!r}.\n"
            "Hint: what is redirected are Lightning's Trainer and Ignite's Engine.run; a loop by hand stays as it is."
        )
    return (
        f"nothing was redirected: {script} ran no optimizer's step and no module.\n"
        "Hint: does it train only when it is given an argument? What stands after `--` is handed to it."
    )
