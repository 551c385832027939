"""What clouds tell a service by variables."""

from __future__ import annotations

import os
from typing import Final

_ROUTES: Final = {"AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/predict"}
"""Vertex AI: https://cloud.google.com/vertex-ai/docs/predictions/custom-container-requirements"""


def aliases() -> dict[str, str]:
    """Return the routes that the environment asks for, with those of ours that they mean."""
    return {os.environ[name]: route for name, route in _ROUTES.items() if os.environ.get(name)}
