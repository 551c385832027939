"""``unitrain bench-serve``: what can be typed, and what is printed."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitrain.errors import ConfigError
from unitrain.serving.load.body import Body, of_file, of_service
from unitrain.serving.load.client import Address, Answer, Connection
from unitrain.serving.load.drive import Load, Measured, drive, run_precisely

if TYPE_CHECKING:
    from collections.abc import Sequence

_DESCRIPTION = """\
Send requests to a running service, and print how many it answered and how long each took.

The request is made from the example that the service itself shows, so a URL is enough. The exit status is 1 if any
request failed.
"""

_EXAMPLES = """\
as fast as 32 connections allow, for 10 seconds:
  unitrain bench-serve http://127.0.0.1:8000

how long one user waits, alone:
  unitrain bench-serve http://127.0.0.1:8000 --connections 1

how long users wait while 500 requests come each second, whether the service keeps up or not:
  unitrain bench-serve http://127.0.0.1:8000 --rate 500 --seconds 30

32 rows a request, as JSON and as binary tensors (Open Inference Protocol):
  unitrain bench-serve http://127.0.0.1:8000 --rows 32
  unitrain bench-serve http://127.0.0.1:8000 --rows 32 --binary

one model of several, a token, and a request of your own:
  unitrain bench-serve https://models.example --model digits --token-file token.txt --data request.json

How to read it: without --rate a connection sends its next request when it has the last answer, so a slow service gets
fewer requests; that measures how many it can answer. With --rate the requests are due at fixed times, and each latency
counts from then, also if all connections wait for answers: a pause of the service shows in all requests that came
during it. Compare latencies at one rate, well below the highest. Percentiles are of the requests that succeeded, each
the smallest latency that so many did not exceed. On the same machine this program takes CPU time from the service.
"""

_PERCENTILES = (50, 90, 99, 99.9)
_MS = 1000
_GOOD = range(200, 300)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description, parser.epilog = _DESCRIPTION, _EXAMPLES
    add = parser.add_argument
    add("url", metavar="URL", help="of the service, such as http://127.0.0.1:8000")
    add("--connections", type=_count, default=32, metavar="N", help="how many at a time (32)")
    add("--seconds", type=_positive, default=10.0, metavar="S", help="how long to start requests (10)")
    add("--rate", type=_positive, metavar="R", help="requests a second; default: as fast as they are answered")
    add("--rows", type=_count, metavar="N", help="rows a request (1)")
    add("--model", metavar="NAME", help="default: the only one")
    add("--data", metavar="FILE", help="the JSON to send; default: from the service's example")
    add("--binary", action="store_true", help="send tensors by the Open Inference Protocol's binary extension")
    add("--token-file", metavar="FILE", help="holds the service's token")
    add("--timeout", type=_positive, default=30.0, metavar="S", help="how long to wait for an answer (30)")
    add("--json", action="store_true", help="print JSON")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


@dataclass(frozen=True)
class Report:
    """What is printed.

    Attributes:
        facts: What was sent, by name.
        measured: What came of it.
        rows: In each request; None if they are in a file.
    """

    facts: dict[str, Any]
    measured: Measured
    rows: int | None

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return sum(self.measured.errors.values())

    def values(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
        good, seconds = sorted(self.measured.latencies), self.measured.seconds
        rate = len(good) / seconds
        latencies = {f"p{one:g}": percentile(good, one) * _MS for one in _PERCENTILES}
        return {
            **self.facts,
            "seconds": seconds,
            "requests": len(good) + self.failed,
            "requests_per_second": rate,
            **({} if self.rows is None else {"rows_per_second": rate * self.rows}),
            "failed": self.failed,
            "errors": dict(sorted(self.measured.errors.items())),
            "latency_ms": {**latencies, "max": good[-1] * _MS} if good else {},
        }

    def __str__(self) -> str:
        found = self.values()
        facts = [f"{name.replace('_', ' ')} {told}" for name, told in self.facts.items() if name != "url"]
        lines = [str(self.facts["url"]), f"  {', '.join(facts)}"]
        table = [
            ("requests", f"{found['requests']:,}"),
            ("requests/s", f"{found['requests_per_second']:,.1f}"),
            ("rows/s", f"{found['rows_per_second']:,.1f}") if self.rows not in (None, 1) else None,
            ("failed", f"{self.failed:,}"),
            *((f"  {name}", f"{count:,}") for name, count in found["errors"].items()),
            *((f"{name} ms", f"{value:,.2f}") for name, value in found["latency_ms"].items()),
        ]
        return "\n".join([*lines, *(f"{row[0]:<24}{row[1]:>12}" for row in table if row)])


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest of the ordered values that ``share`` percent of them do not exceed; 0 if there are none."""
    return ordered[max(0, math.ceil(share / 100 * len(ordered) - 1e-9) - 1)] if ordered else 0.0


def run(arguments: argparse.Namespace) -> int:
    """Send the load, print what came of it, and return the exit status.

    Raises:
        UnitrainError: If there is no service, or it refuses the request.
    """
    _require_one_source(arguments)
    report = run_precisely(_measured(arguments), arguments.connections)
    print(json.dumps(report.values(), indent=2) if arguments.json else report)  # noqa: T201 - a command
    return 1 if report.failed or not report.measured.latencies else 0


def _require_one_source(arguments: argparse.Namespace) -> None:
    for name in ("binary", "rows"):
        if arguments.data is not None and getattr(arguments, name):
            raise ConfigError(
                f"--data sends the file as it is, so --{name} has no effect.", hint=f"remove --{name} or --data."
            )


async def _measured(arguments: argparse.Namespace) -> Report:
    address, token = Address.of(arguments.url), _token(arguments.token_file)
    try:
        body = await _body(address, token, arguments)
        request = address.request("POST", body.route, {**body.headers, **token}, body.content)
        _require_good(await _once(address, request), body.route)
        load = Load(
            address, request, arguments.connections, arguments.seconds, arguments.rate, timeout=arguments.timeout
        )
        measured = await drive(load)
    except OSError as error:
        raise ConfigError(f"{address.url} does not answer: {error or type(error).__name__}.", hint=_START) from error
    rows = None if arguments.data is not None else arguments.rows or 1
    facts = {
        "url": f"POST {address.url}{body.route}",
        "body": body.told,
        "bytes": len(body.content),
        "connections": load.connections,
        **({} if rows is None else {"rows": rows}),
        **({} if load.rate is None else {"rate": load.rate}),
    }
    return Report(facts, measured, rows)


_START = "start one: unitrain serve model.onnx --port 8000"


def _token(path: str | None) -> dict[str, str]:
    return {} if path is None else {"Authorization": f"Bearer {_read(path, '--token-file').decode().strip()}"}


def _read(path: str, option: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{option} {path} cannot be read: {error.strerror}.", hint="check the path.") from error


async def _body(address: Address, token: dict[str, str], arguments: argparse.Namespace) -> Body:
    if arguments.data is not None:
        return of_file(_read(arguments.data, "--data"), arguments.model)

    async def get(route: str) -> Any:
        answer = await _once(address, address.request("GET", route, token))
        if answer.status == 404:  # noqa: PLR2004
            return None
        _require_good(answer, route)
        try:
            return json.loads(answer.body)
        except ValueError as error:
            raise ConfigError(f"{route} is not JSON: {error}.", hint="is it a service of unitrain?") from error

    return await of_service(get, arguments.model, arguments.rows or 1, binary=arguments.binary)


async def _once(address: Address, request: bytes) -> Answer:
    connection = await Connection.to(address)
    try:
        return await connection.ask(request)
    finally:
        connection.close()


def _require_good(answer: Answer, route: str) -> None:
    """Refuse to send many of what the service refuses once.

    Raises:
        ConfigError: With what it said.
    """
    if answer.status not in _GOOD:
        said = answer.body[:1000].decode(errors="replace").strip()
        hint = "--token-file FILE" if answer.status in (401, 403) else "ask it with curl first."
        raise ConfigError(f"the service answered {answer.status} at {route}: {said}", hint=hint)
