"""The settings of ``provider="aws"``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from unitrain.deployment.settings import place, setting
from unitrain.errors import DeployError

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER_TAG: Final = "unitrain"
"""The tag with the name of the deployment."""
CALL_TAG: Final = "unitrain-call"
"""The tag with the number of the call that created a resource."""

IMAGE: Final = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?"
    r"/(?P<repository>[a-z0-9._/-]+)(?::(?P<tag>[\w.-]{1,128}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_ROLE: Final = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_INSTANCE: Final = re.compile(r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)*", re.ASCII)
_REGION: Final = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d+")
_TAG: Final = re.compile(r"[\w .:/=+@-]*")
_LONGEST_TAG: Final = (128, 256)
_MOST_TAGS: Final = 48
"""SageMaker takes 50, and two are ours."""


@dataclass(frozen=True)
class Settings:
    """The settings of ``provider="aws"``.

    Attributes:
        region: The region; by default that of the profile or of ``AWS_DEFAULT_REGION``.
        profile: A profile of the AWS configuration; by default the environment's credentials.
        image: The image in ECR, in the same region.
        role: The role that SageMaker assumes to read the archive and the image.
        instance: The type of machine.
        count: How many of them.
        bucket: The bucket for the archive; by default SageMaker's own, ``sagemaker-REGION-ACCOUNT``.
        prefix: Before the archive's key.
        network_isolation: Whether the container has no network; then it can neither load nor send anything.
        tags: Further tags of what is created; an endpoint that is updated keeps those of its creation.
    """

    region: str | None = place("the region; default: that of the profile or of AWS_DEFAULT_REGION")
    profile: str | None = place("a profile of the AWS configuration; default: the environment's credentials")
    image: str | None = setting("the image in ECR, in the same region", is_required=True)
    role: str | None = setting("the ARN of the role that SageMaker assumes", is_required=True)
    instance: str = setting("the type of machine", default="ml.m5.large")
    count: int = setting("how many machines", default=1, kind=int)
    bucket: str | None = setting("the bucket for the archive; default: sagemaker-REGION-ACCOUNT")
    prefix: str = setting("before the archive's key", default="unitrain")
    network_isolation: bool = setting("whether the container has no network", default=True)
    tags: Mapping[str, str] | str | None = setting("further tags: team=vision,stage=test")

    def __post_init__(self) -> None:
        """Refuse invalid values, and read the tags.

        Raises:
            DeployError: For the first of them.
        """
        for name, (is_valid, accepted, example) in _RULES.items():
            value = getattr(self, name)
            if value is not None and not is_valid(value):
                raise DeployError(f"{name}= must be {accepted}; got {_shown(value)}.", hint=f"{name}={example!r}")
        object.__setattr__(self, "tags", _tags(self.tags))

    @property
    def _further(self) -> dict[str, str]:
        return dict(self.tags) if isinstance(self.tags, Mapping) else {}

    def tag_list(self, owner: str, call: str) -> list[dict[str, str]]:
        """Return the tags of what a call creates for a deployment."""
        found = {OWNER_TAG: owner, CALL_TAG: call, **self._further}
        return [{"Key": key, "Value": value} for key, value in found.items()]


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


_RULES: Final[dict[str, tuple[Callable[[Any], bool], str, Any]]] = {
    "region": (_matches(_REGION), "the name of a region", "eu-west-1"),
    "profile": (lambda value: isinstance(value, str) and value != "", "the name of a profile", "default"),
    "image": (
        _matches(IMAGE),
        "an image in ECR, the only registry that SageMaker reads",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/digits:1",
    ),
    "role": (_matches(_ROLE), "the ARN of a role", "arn:aws:iam::123456789012:role/sagemaker"),
    "instance": (_matches(_INSTANCE), "a type of machine", "ml.m5.large"),
    "count": (_is_count, "a whole number from 1", 1),
    "bucket": (_matches(_BUCKET), "the name of a bucket", "my-models"),
    "prefix": (_matches(_PREFIX), "letters, digits, '_', '.' and '-', with '/' within", "unitrain"),
    "network_isolation": (lambda value: isinstance(value, bool), "True or False", True),
}


def _shown(value: Any) -> str:
    """Return a value for a message, unless it may hold a password: ``https://user:password@host``."""
    return "a text with '@'" if isinstance(value, str) and "@" in value else f"{value!r:.80}"


def _tags(given: Any) -> dict[str, str] | None:
    """Return the tags in order; of a command line they are one text.

    Raises:
        DeployError: If AWS would refuse one, or one is ours.
    """
    if given is None:
        return None
    if isinstance(given, str):
        pairs = [one.partition("=") for one in given.split(",") if one]
        given = {key: value for key, _, value in pairs}
    if not isinstance(given, Mapping) or len(given) > _MOST_TAGS:
        raise DeployError(f"tags= must be at most {_MOST_TAGS} texts by name.", hint='tags={"team": "vision"}')
    for pair in given.items():
        is_text = all(isinstance(one, str) and _TAG.fullmatch(one) for one in pair)
        if not is_text or not pair[0] or any(len(one) > most for one, most in zip(pair, _LONGEST_TAG, strict=True)):
            raise DeployError(
                f"tags= has {pair[0]!r:.80}, which AWS refuses: letters, digits and _.:/=+-@ are accepted.",
                hint='tags={"team": "vision"}',
            )
        if pair[0].lower().startswith(("aws:", OWNER_TAG)):
            raise DeployError(f"tags= has {pair[0]!r:.80}, which is reserved.", hint="choose another name.")
    return dict(sorted(given.items()))
