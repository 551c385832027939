"""The log of a service: lines of text or of JSON on standard error."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

_NAMES: Final = ("unitrain.serving", "uvicorn.error")


class _Json(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        request_id = getattr(record, "request_id", None)
        if request_id is not None:
            told["request_id"] = request_id
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)


class _Text(logging.Formatter):
    """Time, level, message and the request's id."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging calls it so
        request_id = getattr(record, "request_id", None)
        told = super().formatMessage(record)
        return told if request_id is None else f"{told} [{request_id}]"


def configure(log_format: str) -> None:
    """Write the log of this process, as far as its host has not done so already.

    Args:
        log_format: ``"text"`` or ``"json"``.
    """
    logging.raiseExceptions = False  # a full disk must not end a request, nor print a traceback for each line
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    for name in _NAMES:
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(handler)
            logger.propagate = False
    logging.getLogger("unitrain.serving").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of each request that is not HTTP
