"""``unitrain completion``: print a script that completes commands and options in a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unitrain.errors import ConfigError, install_hint

if TYPE_CHECKING:
    import argparse

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "PATH", "SRC", "DST", "FOLDER", "SCRIPT")
"""Names of values that are completed as files."""
_DESCRIPTION = """\
Print a script that completes commands and options, those of the trainer too:

  bash  unitrain completion bash > ~/.local/share/bash-completion/completions/unitrain
  zsh   unitrain completion zsh > "${fpath[1]}/_unitrain"
  fish  unitrain completion fish > ~/.config/fish/completions/unitrain.fish"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = _DESCRIPTION
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def run(arguments: argparse.Namespace) -> int:
    """Print the script, and return the exit status.

    Raises:
        ConfigError: If shtab is not installed, which writes the script.
    """
    from unitrain.cli.commands import COMMANDS, parser  # noqa: PLC0415 - which names this module

    try:
        import shtab  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigError("unitrain completion needs shtab.", hint=install_hint("cli")) from error
    top = parser(*COMMANDS)
    for one in _all(top):
        for action in one._actions:  # noqa: SLF001 - shtab reads them there too
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(top, arguments.shell))  # noqa: T201 - a command
    return 0


def _all(top: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return a parser and those of its commands."""
    below = [one for action in top._actions if isinstance(action.choices, dict) for one in action.choices.values()]  # noqa: SLF001
    return [top, *below]
