"""The settings of all providers as options of a command line."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from collections import defaultdict
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from unitrain.deployment.providers.registry import find_provider, provider_names
from unitrain.deployment.settings import about, default_of
from unitrain.errors import UnitrainError

if TYPE_CHECKING:
    import argparse
    from dataclasses import Field

    from unitrain.deployment.settings import About


@dataclass(frozen=True)
class _Offered:
    provider: str
    field: Field[Any]

    @property
    def about(self) -> About:
        return about(self.field)


def add_settings(parser: argparse.ArgumentParser, *, is_deploy: bool) -> None:
    """Add an option for each setting.

    Args:
        parser: Gets the options.
        is_deploy: Whether all settings have a meaning, or only those that say where things are.
    """
    parser.add_argument("--provider", required=True, metavar="NAME", help=f"one of {', '.join(provider_names())}")
    group = parser.add_argument_group("settings of the providers")
    for name, offered in _offered(is_deploy=is_deploy).items():
        first = offered[0]
        option, told = f"--{name.replace('_', '-')}", "; ".join(_help(one) for one in offered)
        if isinstance(first.field.default, bool):
            group.add_argument(option, action=BooleanOptionalAction, default=None, help=told)
        else:
            group.add_argument(option, type=first.about.kind, metavar=_metavar(first.about), help=told)


def given_settings(arguments: argparse.Namespace, *, is_deploy: bool) -> dict[str, Any]:
    """Return the settings that were given, by name."""
    named = {name: getattr(arguments, name) for name in _offered(is_deploy=is_deploy)}
    return {name: value for name, value in named.items() if value is not None}


def add_course(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a plan is carried out."""
    parser.add_argument("--dry-run", action="store_true", help="only read, and show the plan")
    parser.add_argument("--no-wait", dest="wait", action="store_false", help="return at the first step that takes time")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds to wait for one step; default: 1800")


def given_course(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return how the plan is to be carried out, by the names that ``deploy`` and ``undeploy`` have."""
    named = {name: getattr(arguments, name) for name in ("dry_run", "wait", "timeout")}
    return {name: value for name, value in named.items() if value is not None}


def _offered(*, is_deploy: bool) -> dict[str, list[_Offered]]:
    """Return the settings of all providers by name; a provider that cannot be loaded says so when it is used."""
    found: dict[str, list[_Offered]] = defaultdict(list)
    for provider in provider_names():
        try:
            kind = find_provider(provider).settings_type
        except UnitrainError:
            continue
        for one in fields(kind):
            if is_deploy or about(one).is_place:
                found[one.name].append(_Offered(provider, one))
    return dict(found)


def _help(one: _Offered) -> str:
    required = "; required" if one.about.is_required else ""
    return f"{one.provider}: {one.about.help}{default_of(one.field)}{required}".replace("%", "%%")


def _metavar(one: About) -> str:
    return "N" if one.kind is int else "VALUE"
