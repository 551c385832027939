"""Reports a run to Prometheus: it scrapes a port of the run, or a Pushgateway that the run pushes to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.request import Request

from unitrain.compat.other_names import callback_arguments_for
from unitrain.errors import BackendNotInstalledError, ConfigError, install_hint, named_arguments
from unitrain.loggers.addresses import ServerAddress, http_address, require_port
from unitrain.loggers.posting import sent
from unitrain.loggers.reporter import OWN, TIMEOUT, Report, Reporter, Sender, stage_of
from unitrain.loggers.scrape_port import ScrapePort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

PREFIX = "unitrain_"
LABELS = ("run", "stage")
_REFUSED = re.compile(r"[^a-zA-Z0-9_]")


@named_arguments(ConfigError, callback_arguments_for)
class PrometheusLogger(Reporter):
    """Shows the newest values of a run to Prometheus, as gauges.

    ``train/loss`` becomes ``unitrain_train_loss``, with the labels ``run`` and ``stage``. The step is no label, which
    would make a series of each, but ``unitrain_step``; it, ``unitrain_epoch`` and
    ``unitrain_last_step_timestamp_seconds`` follow the run between rows too.

    With ``port=``, Prometheus scrapes the training process while it runs. With ``pushgateway=``, a thread pushes every
    second to the group of ``job`` and ``run``, and deletes the group when the run succeeds; that of a failed or killed
    run stays, with the time of its last step.

    Attributes:
        run: Value of the label ``run``: the argument, or the job, the time and six random digits. A resumed fit keeps
            it.
        failures: Number of pushes that failed.

    Args:
        port: The port that Prometheus scrapes; 0 takes a free one, which ``url`` shows during the run.
        pushgateway: URL of a Pushgateway, instead of a port; credentials in it are sent as a header.
        job: The job at the Pushgateway, and the beginning of the name of a run.
        host: The address to listen on; only this machine by default.
        run: Name of the run.
        keep: Whether the Pushgateway keeps the values of a run that succeeded.

    Raises:
        ConfigError: If both or neither of ``port`` and ``pushgateway`` are given, an argument is invalid, or, when a
            run begins, the port is in use.
        BackendNotInstalledError: If prometheus_client is not installed.

    Example:
        >>> tracker = PrometheusLogger(port=0, job="digits")
        >>> trainer = UnifiedTrainer("reference", max_epochs=1, loggers=[tracker], enable_progress_bar=False)
        >>> trainer.fit(spec, batches).step
        3
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        pushgateway: str | None = None,
        job: str = "unitrain",
        host: str = "127.0.0.1",
        run: str | None = None,
        keep: bool = False,
    ) -> None:
        try:
            import prometheus_client  # noqa: F401, PLC0415 - only those who use it need it
        except ImportError as error:
            raise BackendNotInstalledError(
                "PrometheusLogger needs the package prometheus-client, which is not installed.",
                hint=install_hint("monitoring"),
            ) from error
        _require_one(port, pushgateway, host=host, keep=keep)
        super().__init__(run, job)
        self._port, self._pushgateway, self._host, self._keep = port, pushgateway, host, keep
        self._gateway: ServerAddress | None = None
        if pushgateway is not None:
            self._gateway = http_address("pushgateway", pushgateway, "http://127.0.0.1:9091")
        self._listening: ScrapePort | None = None

    @property
    def url(self) -> str | None:
        """What Prometheus scrapes while the run lasts; else, and with a Pushgateway, None."""
        place = f"[{self._host}]" if ":" in self._host else self._host
        return None if self._listening is None else f"http://{place}:{self._listening.port}/metrics"

    @property
    def destination(self) -> str:
        """The Pushgateway."""
        return "" if self._gateway is None else self._gateway.url

    def before_run(self) -> None:
        """Open the port.

        Raises:
            ConfigError: If it is in use.
        """
        if self._port is not None and self._listening is None:
            from prometheus_client import make_wsgi_app  # noqa: PLC0415 - as above

            self._listening = ScrapePort(self._host, self._port, make_wsgi_app(self.registry()))

    def accepted(self, name: str) -> str:
        """Return a name of letters, digits and ``_``."""
        return _REFUSED.sub("_", name) or "_"

    def registry(self) -> Any:
        """Return a registry of prometheus_client with the metrics of the run, for an endpoint of one's own."""
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - as above

        made = CollectorRegistry()
        made.register(_Collector(self.report))
        return made

    @staticmethod
    def metrics(report: Report) -> Iterator[Metric]:
        """Yield the values as metrics of prometheus_client."""
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - as above

        for name, value in report.own.items():
            yield _gauge(GaugeMetricFamily, name, OWN[name], (report.run, "train"), value)
        for name, value in report.values.items():
            text = f"The newest value of {name!a}."
            yield _gauge(GaugeMetricFamily, report.stored_as(name), text, (report.run, stage_of(name)), float(value))

    def deliver(self, report: Report) -> None:
        """Replace the group of the run at the Pushgateway."""
        from prometheus_client import CollectorRegistry, push_to_gateway  # noqa: PLC0415 - as above

        registry = CollectorRegistry()
        registry.register(_Collector(lambda: report))
        push_to_gateway(registry=registry, **self._group(report))

    def end(self, report: Report) -> None:
        """Delete the group of a run that succeeded: else its values would be scraped for ever."""
        from prometheus_client import delete_from_gateway  # noqa: PLC0415 - as above

        if not self._keep:
            delete_from_gateway(**self._group(report))

    def finalize(self, status: str) -> None:
        """End the run, and close the port."""
        super().finalize(status)
        port, self._listening = self._listening, None
        if port is not None:
            port.close()

    def __getstate__(self) -> dict[str, Any]:
        """Drop the open port."""
        return {**super().__getstate__(), "_listening": None}

    def _started(self) -> Sender | None:
        return super()._started() if self._gateway is not None else None

    def _group(self, report: Report) -> dict[str, Any]:
        gateway = self._gateway
        assert gateway is not None  # noqa: S101 - for the type checker

        # prometheus_client's own handlers do not close the connection when the answer is an error
        def handler(url: str, method: str, timeout: float, headers: list[Any], data: bytes) -> Callable[[], object]:
            request = Request(url, data, {**dict(headers), **gateway.headers}, method=method)  # noqa: S310 - checked
            return lambda: sent(request, timeout)

        given = {"gateway": gateway.url, "job": self._job, "grouping_key": {"run": report.run}}
        return {**given, "timeout": TIMEOUT, "handler": handler}


class _Collector:
    """Reads the values when they are asked for."""

    def __init__(self, read: Callable[[], Report]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        yield from PrometheusLogger.metrics(self._read())

    def describe(self) -> list[Metric]:
        """Return nothing: the names are known when there are values."""
        return []


def _gauge(kind: Any, name: str, text: str, labels: tuple[str, str], value: float) -> Metric:
    made: Metric = kind(PREFIX + name, text, labels=LABELS)
    made.add_metric(labels, value)  # type: ignore[attr-defined]
    return made


def _require_one(port: int | None, pushgateway: str | None, *, host: str, keep: bool) -> None:
    if (port is None) == (pushgateway is None):
        given = "neither" if port is None else "both"
        raise ConfigError(
            f"PrometheusLogger takes port= or pushgateway=; got {given}.",
            hint='PrometheusLogger(port=9100), or PrometheusLogger(pushgateway="http://127.0.0.1:9091")',
        )
    if isinstance(port, str) and "://" in port:  # which may have a password
        raise ConfigError("port must be a number; got a URL.", hint='pushgateway="http://127.0.0.1:9091"')
    if port is not None:
        require_port(port)
    if not isinstance(host, str) or not host:
        raise ConfigError(f"host must be an address to listen on; got {host!r}.", hint='host="0.0.0.0" for all.')
    if pushgateway is not None and host != "127.0.0.1":
        raise ConfigError("host= has no effect with pushgateway=: nothing listens.", hint="remove it.")
    if port is not None and keep:
        raise ConfigError("keep= has no effect with port=: the port closes when the run ends.", hint="remove it.")
