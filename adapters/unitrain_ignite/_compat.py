"""The one place that imports Ignite and knows its versions."""

from __future__ import annotations

from ignite.engine import Engine, Events

REQUIRES = ("pytorch-ignite>=0.5.2",)

__all__ = ["REQUIRES", "Engine", "Events"]
