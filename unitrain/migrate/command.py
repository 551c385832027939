"""``unitrain migrate``: rewrites scripts, notebooks and folders."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING

from unitrain.backends.registry import adapter_names
from unitrain.errors import did_you_mean, install_hint
from unitrain.migrate import report
from unitrain.migrate.findings import UNITRAIN, Goal, Severity
from unitrain.utilities.files import user_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from unitrain.migrate.findings import Rule

ALL = "all"
"""What ``--behaviour`` takes for all rules."""

EPILOG = """\
examples:
  unitrain migrate train.py                        show the changes as a patch; write nothing
  unitrain migrate train.py --write                rewrite it; the original is kept as train.py.orig
  unitrain migrate src/ --to ignite --write        all scripts and notebooks of a folder, to run on Ignite
  unitrain migrate src/ --report report.md         write the findings as a table (or .json)
  unitrain migrate train.py --check-backend ignite report what Ignite does not support; write nothing
  unitrain migrate --list-rules                    list the rules; --disable RULE turns one off
  unitrain migrate train.py --behaviour all        also make the changes that change what the script does

A LightningModule, a process function and their handlers stay unchanged: unitrain runs them on either backend. Only the
surrounding script is rewritten, so that one argument selects the backend: UnifiedTrainer(framework="lightning"). Names
that newer framework releases renamed or removed are updated, too.

A rewritten script does what the original does with the installed releases, or repairs what fails there. A rule of
severity `behaviour` would change what runs, such as reviving a hook that is no longer called: it is reported, and only
applied if --behaviour names it.

What cannot be decided from the source is reported as `file:line RULE person: reason -> fix`, and a file with such an
item is not changed. A comment at the end of the line that creates an Engine can tell whether it trains or evaluates:
  trainer = Engine(step)  # unitrain: trainer

exit status:
  0  nothing to do        1  changes pending or made
  2  items to fix by hand (or invalid arguments)
  3  a file that cannot be parsed or read, or the extra `migrate` is not installed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    backends = adapter_names()
    parser.epilog = EPILOG
    parser.add_argument("paths", nargs="*", type=user_path, metavar="PATH", help="a script, a notebook or a directory")
    parser.add_argument(
        "--to",
        default=UNITRAIN,
        choices=(UNITRAIN, *backends),
        help="the backend to select in the script; unitrain (the default) keeps its own framework",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--diff", action="store_true", help="show the changes as a patch and write nothing (the default)")
    how.add_argument("--write", action="store_true", help="write the changes; originals are kept as NAME.py.orig")
    parser.add_argument("--report", type=user_path, metavar="FILE", help="write the findings to FILE.json or FILE.md")
    parser.add_argument("--disable", action="append", default=[], metavar="RULE", help="turn a rule off; repeatable")
    parser.add_argument(
        "--behaviour",
        action="append",
        default=[],
        metavar="RULE",
        help="also apply this rule, which changes what the script does; repeatable, `all` for all",
    )
    parser.add_argument(
        "--check-backend", choices=backends, help="report what this backend does not support; nothing is rewritten"
    )
    parser.add_argument("--list-rules", action="store_true", help="list the rules and exit")
    parser.set_defaults(fail=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Args:
        arguments: The parsed arguments.

    Returns:
        The exit status.
    """
    if importlib.util.find_spec("libcst") is None:
        sys.stderr.write(f"unitrain migrate needs libcst.\nHint: {install_hint('migrate')}\n")
        return report.BROKEN
    from unitrain.migrate.registry import families, rules  # noqa: PLC0415 - it needs libcst
    from unitrain.migrate.run import migrate_files  # noqa: PLC0415 - it needs libcst

    known = families()
    if arguments.list_rules:
        sys.stdout.writelines(f"{rule.name:28} {rule.severity:9}  {rule.summary}\n" for rule in rules(known))
        return report.NOTHING
    _check(arguments, rules(known))
    goal = Goal(arguments.to, arguments.check_backend, behaviour=_chosen(arguments.behaviour, rules(known)))
    files = migrate_files(arguments.paths, known, goal, frozenset(arguments.disable), write=arguments.write)
    _show(files, written=arguments.write)
    if arguments.report is not None:
        report.write_report(arguments.report, files)
    return report.status(files)


def _chosen(given: Sequence[str], known: Sequence[Rule]) -> frozenset[str]:
    """Return the rules of severity behaviour that are to act."""
    names = frozenset(rule.name for rule in known if rule.severity is Severity.BEHAVIOUR)
    return names if ALL in given else names & set(given)


def _check(arguments: argparse.Namespace, known: Sequence[Rule]) -> None:
    """End with a message about arguments that make no sense, before a file is read."""
    names = {rule.name for rule in known}
    choices = {ALL, *(rule.name for rule in known if rule.severity is Severity.BEHAVIOUR)}
    unknown = [one for one in arguments.disable if one not in names]
    no_choice = [one for one in arguments.behaviour if one not in choices]
    target = arguments.report
    checks = (
        (not arguments.paths, "pass a script, a notebook or a directory."),
        (bool(unknown), f"--disable got an unknown rule: {did_you_mean(''.join(unknown[:1]), names)}"),
        (bool(no_choice), f"--behaviour takes {', '.join(sorted(choices))}; got {''.join(no_choice[:1])!r}."),
        (
            target is not None and target.suffix not in report.FORMATS,
            f"--report takes FILE.json or FILE.md; got {target}.",
        ),
        (
            target is not None and not target.parent.is_dir(),
            f"--report: no such directory: {target.parent if target else ''}.",
        ),
        (arguments.write and arguments.check_backend is not None, "--check-backend writes nothing; remove --write."),
    )
    for refused, message in checks:
        if refused:
            arguments.fail(message)


def _show(files: Sequence[report.FileReport], *, written: bool) -> None:
    for one in files:
        if one.changed and not written:
            sys.stdout.write(one.patch())
    for one in files:
        sys.stdout.writelines(f"{entry}\n" for entry in one.entries)
        if one.kept is not None:
            sys.stdout.write(f"{one.file}: rewritten; the original is {one.kept}\n")
    sys.stdout.write(f"{report.summary(files, written=written)}\n")
