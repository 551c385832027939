"""``unitrain run SCRIPT --framework NAME [-- ARGUMENTS]``: run an unchanged script on another framework."""

from __future__ import annotations

import builtins
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import ModuleType
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
"""The exit status if the chosen backend does not support something in the script."""

NOTHING_RAN = 4
"""The exit status if nothing in the script ran on the chosen backend."""

DESCRIPTION = """\
Run an unchanged Lightning or Ignite script, with its training on another engine. The script is not modified, and no
files are written beside it.

  a Lightning script   Trainer.fit, validate, test and predict run on the chosen framework
  an Ignite script     Engine.run does; handlers, metrics and filters stay the script's own
"""

EPILOG = """\
examples:
  unitrain run train.py --framework ignite
  unitrain run train.py --framework lightning --epochs 3 --lr 0.01
  unitrain run train.py --framework reference      # the plain PyTorch loop, to verify results

Other arguments are passed to the script in sys.argv, and so is everything after `--`, even --framework. The working
directory does not change.

exit status:
  0  the script finished, and its training ran on the chosen framework
  1  the framework does not support something in it; reported with place and fix, before training
  4  the script finished, but nothing in it ran on the chosen framework
  other: the script's own exit status; its exceptions propagate
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
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
    check_blocked()  # the script would import it itself
    adapter = find_adapter(arguments.framework)
    if Feature.NATIVE_CODE not in adapter.features:
        raise refuse(adapter, Feature.NATIVE_CODE, "a script of another framework")
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
    found = "no such file" if not path.exists() else "it is a directory" if path.is_dir() else "it is not a Python file"
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
    argv, path, before = sys.argv, sys.path[:], sys.modules["__main__"]
    file = str(script.absolute())  # as Python makes it, while sys.argv has what was typed
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    sys.modules["__main__"] = main = ModuleType("__main__")
    loader = SourceFileLoader("__main__", file)
    vars(main).update(__file__=file, __loader__=loader, __cached__=None, __annotations__={}, __builtins__=builtins)
    try:
        exec(compile(loader.get_data(file), file, "exec", dont_inherit=True), vars(main))  # noqa: S102 - that is the command
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    finally:
        sys.argv, sys.path[:], sys.modules["__main__"] = argv, path, before


@dataclass
class _Witness:
    """Checks the call stack for the requested engine whenever something is computed, until it has been seen.

    Attributes:
        engine: The packages or modules of the requested engine.
        seen: Whether the engine ran anything.
        elsewhere: Whether anything was computed before that.
    """

    engine: tuple[str, ...]
    seen: bool = False
    elsewhere: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch optimizer steps and forward passes."""
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
        if place.tb_frame.f_code.co_filename == str(script.absolute()):
            line = place.tb_lineno
        place = place.tb_next
    return f"  at {script}:{line}"


def _what_was_missed(witness: _Witness, script: Path, adapter: Adapter) -> str:
    if witness.elsewhere:
        return (
            f"{script} ran computations, but none of them on {adapter.name!r}.\n"
            "Hint: only Lightning's Trainer and Ignite's Engine.run are redirected; a hand-written loop is not."
        )
    return (
        f"nothing was redirected: {script} called no optimizer step and no module.\n"
        "Hint: does it need an argument to start training? Pass script arguments after `--`."
        " Does it train in processes of its own? They are not redirected."
    )
