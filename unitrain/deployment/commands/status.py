"""``unitrain status``: tell the state of a deployment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from unitrain.deployment.commands.settings import add_settings, given_settings

if TYPE_CHECKING:
    import argparse

NOT_READY: Final = 3
"""The exit status for a deployment that does not answer; 2 is that of a wrong option."""

_DESCRIPTION = """\
Tell the state of a deployment, in the words of the provider.
"""

_EPILOG = """\
  unitrain status digits --provider local

exit status:
  0  it answers
  1  the provider cannot be asked
  3  it does not answer: it is absent, starting, or failed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("name", metavar="NAME", help="the name of the deployment")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    add_settings(parser, is_deploy=False)


def run(arguments: argparse.Namespace) -> int:
    """Print the state, and return the exit status.

    Raises:
        UnitrainError: If the provider cannot be asked.
    """
    from unitrain.deployment.undeploy import status  # noqa: PLC0415 - after `--help`

    found = status(arguments.name, provider=arguments.provider, **given_settings(arguments, is_deploy=False))
    print(json.dumps(found.described(), indent=1) if arguments.json else found)  # noqa: T201 - that is its output
    return 0 if found.is_ready else NOT_READY
