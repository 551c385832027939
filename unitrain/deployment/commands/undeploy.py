"""``unitrain undeploy``: remove a deployment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from unitrain.deployment.commands.deploy import STOPPED
from unitrain.deployment.commands.settings import add_course, add_settings, given_course, given_settings

if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Remove a deployment: what unitrain made for it, and nothing else. If nothing is there, nothing is done.
"""

_EPILOG = """\
first see what would be removed, then remove it:
  unitrain undeploy digits --provider local --dry-run
  unitrain undeploy digits --provider local

exit status:
  0    it is gone, or --dry-run has shown the plan, or --no-wait has begun it
  1    what has the name is not unitrain's, or a step failed; the same command continues
  130  Ctrl-C; the same command continues
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("name", metavar="NAME", help="the name of the deployment")
    add_course(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")
    add_settings(parser, is_deploy=False)


def run(arguments: argparse.Namespace) -> int:
    """Remove a deployment, and return the exit status.

    Raises:
        UnitrainError: If something is invalid, or a step fails.
    """
    from unitrain.deployment.undeploy import undeploy  # noqa: PLC0415 - after `--help`

    settings = given_settings(arguments, is_deploy=False)
    try:
        plan = undeploy(arguments.name, provider=arguments.provider, **given_course(arguments), **settings)
    except KeyboardInterrupt:
        return STOPPED
    print(json.dumps([one.described() for one in plan.steps], indent=1) if arguments.json else plan)  # noqa: T201 - its output
    return 0
