"""Reports a run to an OpenTelemetry collector: OTLP over HTTP, in protobuf."""

from __future__ import annotations

import os
import re
import time
from typing import Any
from urllib.parse import unquote
from urllib.request import Request

from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import BackendNotInstalledError, ConfigError, install_hint, named_arguments
from unitrain.loggers.addresses import http_address
from unitrain.loggers.outlet import tell
from unitrain.loggers.posting import sent
from unitrain.loggers.reporter import TIMEOUT, Report, Reporter, stage_of
from unitrain.utilities.version import __version__

_PATH = "/v1/metrics"
_REFUSED = re.compile(r"[^a-zA-Z0-9_.-]")
_LONGEST = 240
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_KEY = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_HINT = f"{_HEADERS}=key=value,key=value with values percent-encoded."
_NANOSECONDS = 1_000_000_000


@named_arguments(ConfigError, callback_arguments_for)
class OTLPLogger(Reporter):
    """Sends the newest values of a run to an OpenTelemetry collector every second, as gauges.

    ``train/loss`` becomes ``unitrain.train.loss``, with the attributes ``run`` and ``stage``. NaN and infinities are
    sent as they are. Headers come from OpenTelemetry's own variable ``OTEL_EXPORTER_OTLP_HEADERS``, or credentials
    from the URL.

    Attributes:
        run: Value of the attribute ``run``: the argument, or the job, the time and six random digits.
        failures: Number of deliveries that failed.
        rejected: Number of values that the collector took no part of, by its own answers; a warning at the end tells
            of them.

    Args:
        url: The collector; ``/v1/metrics`` is added.
        job: The resource's ``service.name``, and the beginning of the name of a run.
        run: Name of the run.

    Raises:
        ConfigError: If an argument is invalid.
        BackendNotInstalledError: If opentelemetry-proto is not installed.

    Example:
        >>> OTLPLogger("http://127.0.0.1:4318")
        OTLPLogger('http://127.0.0.1:4318')
    """

    def __init__(self, url: str, *, job: str = "unitrain", run: str | None = None) -> None:
        try:
            import opentelemetry.proto.collector.metrics.v1.metrics_service_pb2  # noqa: F401, PLC0415 - an extra
        except ImportError as error:
            raise BackendNotInstalledError(
                "OTLPLogger needs the package opentelemetry-proto, which is not installed.",
                hint=install_hint("monitoring"),
            ) from error
        self._collector = http_address("url", url, "http://127.0.0.1:4318")
        self.rejected = self._rejections_told = 0
        super().__init__(run, job)
        self._url = url

    @property
    def destination(self) -> str:
        """What is posted to."""
        url = self._collector.url
        return url if url.endswith(_PATH) else url + _PATH

    def accepted(self, name: str) -> str:
        """Return a name as OpenTelemetry allows, with dots instead of slashes."""
        return _REFUSED.sub("_", name.replace("/", "."))[:_LONGEST] or "_"

    def before_run(self) -> None:
        """Refuse headers that cannot be sent.

        Raises:
            ConfigError: If the variable has any; values are not told.
        """
        _more_headers()

    def begin(self, rows: int) -> None:
        """Begin a run."""
        self.rejected = self._rejections_told = 0
        super().begin(rows)

    def finalize(self, status: str) -> None:
        """End the run, and tell of values that the collector rejected."""
        super().finalize(status)
        more, self._rejections_told = self.rejected - self._rejections_told, self.rejected
        if more:
            tell(f"the collector {self.destination} rejected {more} values of OTLPLogger; its log says why.")

    def deliver(self, report: Report) -> None:
        """Post the values.

        Raises:
            OSError: If there is no answer within two seconds, or one that is an error.
        """
        headers = {"Content-Type": "application/x-protobuf", **self._collector.headers, **_more_headers()}
        request = Request(self.destination, self.encoded(report), headers)  # noqa: S310 - checked: http or https
        self.rejected += _rejected(sent(request, TIMEOUT))

    def encoded(self, report: Report) -> bytes:
        """Return the body of a post."""
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service  # noqa: PLC0415 - an extra

        request: Any = service.ExportMetricsServiceRequest()
        resource = request.resource_metrics.add()
        _attributes(resource.resource, {"service.name": self._job})
        scope = resource.scope_metrics.add()
        scope.scope.name, scope.scope.version = "unitrain", __version__
        now = int(time.time() * _NANOSECONDS)
        for name, value in report.own.items():
            _gauge(scope, f"unitrain.{name}", value, now, {"run": report.run, "stage": "train"})
        for name, value in report.values.items():
            labels = {"run": report.run, "stage": stage_of(name)}
            _gauge(scope, f"unitrain.{report.stored_as(name)}", value, now, labels)
        body: bytes = request.SerializeToString()
        return body


def _gauge(scope: Any, name: str, value: float, now: int, attributes: dict[str, str]) -> None:
    metric = scope.metrics.add()
    metric.name = name
    point = metric.gauge.data_points.add()
    point.time_unix_nano = now
    point.as_double = float(value)
    _attributes(point, attributes)


def _attributes(held: Any, attributes: dict[str, str]) -> None:
    for key, value in attributes.items():
        if value:
            made = held.attributes.add()
            made.key, made.value.string_value = key, value


def _more_headers() -> dict[str, str]:
    """Return the headers of OpenTelemetry's variable: ``key=value,key=value``, percent-encoded.

    Raises:
        ConfigError: If one cannot be sent. No value is told, which may be a password.
    """
    pairs = (pair.partition("=") for pair in os.environ.get(_HEADERS, "").split(",") if "=" in pair)
    found = {unquote(key).strip(): unquote(value).strip() for key, _, value in pairs}
    for number, (key, value) in enumerate(found.items(), 1):
        if not _KEY.fullmatch(key):
            raise ConfigError(f"the name of header {number} in {_HEADERS} is not one of HTTP.", hint=_HINT)
        if not _VALUE.fullmatch(value):
            raise ConfigError(f"the value of {key} in {_HEADERS} has characters that HTTP cannot send.", hint=_HINT)
    return found


def _rejected(answer: bytes) -> int:
    """Return how many values a collector has rejected by its answer; 0 if the answer is no protobuf."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as service  # noqa: PLC0415 - an extra

    made: Any = service
    try:
        return int(made.ExportMetricsServiceResponse.FromString(answer).partial_success.rejected_data_points)
    except DecodeError:
        return 0
