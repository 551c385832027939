"""Finds providers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from unitrain.deployment.settings import checked
from unitrain.errors import DeployError
from unitrain.utilities.plugins import PROVIDERS, entries, loaded, named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unitrain.deployment.providers.provider import Provider


def provider_names() -> tuple[str, ...]:
    """Return the names of the registered providers."""
    return tuple(sorted(entries(PROVIDERS)))


def find_provider(name: str) -> type[Provider]:
    """Return the class of a provider.

    Raises:
        DeployError: If no provider has that name.
        BackendNotInstalledError: If it needs a package that is not installed.
    """
    return cast("type[Provider]", loaded(named(PROVIDERS, name, DeployError)))


def connected(provider: str, name: Any, settings: Mapping[str, Any], *, is_deploy: bool) -> Provider:
    """Return a provider with checked settings, for a deployment with a checked name; nothing is asked yet.

    Raises:
        DeployError: If the provider, a setting or the name is invalid.
    """
    kind = find_provider(provider)
    there = kind(checked(kind.settings_type, settings, provider, is_deploy=is_deploy))
    if not isinstance(name, str) or not name:
        raise DeployError(f"name= must be a text; got {name!r:.80}.", hint='name="digits"')
    there.check_name(name)
    return there
