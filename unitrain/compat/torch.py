"""Differences between torch releases since 2.4."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch

from unitrain.compat.differences import difference
from unitrain.errors import UnsupportedFeatureError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_2_6 = "https://github.com/pytorch/pytorch/releases/tag/v2.6.0"


@difference("torch", since="2.6", drop="2.6", link=_2_6)
def code_finder() -> Callable[[str], list[str]] | None:
    """Return torch's function that lists disallowed names in a file; None before torch 2.6.

    Without it, only names that torch itself allows can be read.
    """
    return getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)


@difference("torch", since="2.6", drop="2.6", link=_2_6)
def fully_shard() -> Callable[..., Any]:
    """Return torch's ``fully_shard``, which is public since 2.6.

    Raises:
        UnsupportedFeatureError: If the installed torch has none.
    """
    try:
        from torch.distributed.fsdp import fully_shard as found  # noqa: PLC0415 - it takes a moment to import
    except ImportError as error:
        raise UnsupportedFeatureError(
            f'strategy="fsdp" needs torch 2.6 or newer; this is {torch.__version__}.', hint='strategy="ddp".'
        ) from error
    return found


@difference("torch", since="2.6", drop="2.6", link=_2_6)
def uncompiled() -> AbstractContextManager[Any]:
    """Return a context that disables torch.compile; before torch 2.6 it does nothing."""
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else cast("AbstractContextManager[Any]", stance("force_eager"))
