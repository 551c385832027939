"""``unitrain deploy``: deploy a bundle."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from unitrain.deployment.commands.settings import add_course, add_settings, given_course, given_settings

if TYPE_CHECKING:
    import argparse

STOPPED: Final = 130
"""The exit status after Ctrl-C."""

_DESCRIPTION = """\
Deploy a bundle, or update the deployment of that name without a failed request. To deploy the same again does nothing.
Where a step fails, what this call made is removed again, and what was there before remains.
"""

_EPILOG = """\
on this machine, without a cloud:
  unitrain export last.ckpt --model train:Net digits.onnx
  unitrain bundle digits.onnx out/
  unitrain deploy out/ --provider local --name digits
  unitrain status digits --provider local
  unitrain undeploy digits --provider local

on SageMaker; first see what would be done, then do it:
  unitrain bundle digits.onnx out/ --target sagemaker --archive
  unitrain deploy out/ --provider aws --name digits --image URI --role ARN --dry-run
  unitrain deploy out/ --provider aws --name digits --image URI --role ARN

exit status:
  0    it answers, or --dry-run has shown the plan, or --no-wait has begun it
  1    something is invalid, or a step failed and was taken back
  130  Ctrl-C; nothing is taken back, and the same command continues
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("bundle", metavar="BUNDLE", help="a folder or archive that `unitrain bundle` wrote")
    parser.add_argument("--name", required=True, help="the name of the deployment")
    add_course(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    add_settings(parser, is_deploy=True)


def run(arguments: argparse.Namespace) -> int:
    """Deploy, and return the exit status.

    Raises:
        UnitrainError: If something is invalid, or a step fails.
    """
    from unitrain.deployment.deploy import deploy  # noqa: PLC0415 - after `--help`

    settings = given_settings(arguments, is_deploy=True)
    if arguments.dry_run is False and not arguments.json:
        print(f"deploy {arguments.name} on {arguments.provider}", file=sys.stderr)  # noqa: T201 - for a person
    try:
        made = deploy(
            arguments.bundle,
            provider=arguments.provider,
            name=arguments.name,
            **given_course(arguments),
            **settings,
        )
    except KeyboardInterrupt:
        return STOPPED
    url = None if arguments.dry_run or not made.is_complete else made.url
    if arguments.json:
        steps = [step.described() for step in made.plan.steps]
        told = {"name": made.name, "provider": arguments.provider, "plan": steps, "url": url}
        print(json.dumps(told, indent=1))  # noqa: T201 - that is its output
    else:
        print(made if url is None else url)  # noqa: T201 - as above
    return 0
