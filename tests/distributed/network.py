"""Several hosts on one switch, made of network namespaces, whose cards count bytes and can be made slow."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.distributed.launching import Host, ip, remove

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETWORKS = itertools.cycle(range(10))
PROGRAMS = {"ip": "iproute2", "tc": "iproute2"}


class NoNetworkError(Exception):
    """This system lets nobody make networks, or not such ones; the message says what it lacks."""


def _do(what: str, command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise NoNetworkError(f"this system lets {what}: {error.stderr.strip()}") from error


@contextmanager
def switched(count: int) -> Iterator[list[Host]]:
    """Yield hosts on a switch; their processes and themselves are gone afterwards, whatever happens.

    Args:
        count: How many hosts.

    Raises:
        NoNetworkError: If this system lets no namespaces, cables or switches be made.
    """
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            raise NoNetworkError(f"hosts need the program `{program}` (Debian: {package})")
    unique = f"us{os.getpid()}{next(_NETWORKS)}"  # a card's name has 15 letters at most
    switch, cards = f"{unique}s", [f"{unique}{number}" for number in range(count)]
    hosts = [Host(card, f"10.78.0.{number}", card) for number, card in enumerate(cards, 1)]
    try:
        for name in (switch, *cards):
            _do("no network namespaces be made", ["ip", "netns", "add", name])
        _do("no switch be made", ["ip", "-n", switch, "link", "add", "switch", "type", "bridge"])
        ip("-n", switch, "link", "set", "switch", "up")
        for number, host in enumerate(hosts):
            cable = ["type", "veth", "peer", f"port{number}", "netns", switch]
            _do("no virtual cable be made", ["ip", "link", "add", host.card, "netns", host.name, *cable])
            ip("-n", switch, "link", "set", f"port{number}", "master", "switch", "up")
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.card)
            for card in ("lo", host.card):
                ip("-n", host.name, "link", "set", card, "up")
        yield hosts
    finally:
        for host in hosts:
            host.stop()
        for name in (*cards, switch):
            remove(name)


def limit(host: Host, rate: str) -> None:
    """Let the card of ``host`` send at most ``rate``, such as ``"100mbit"``.

    Raises:
        NoNetworkError: If the system has no token bucket filter.
    """
    bucket = ["tbf", "rate", rate, "burst", "32kb", "latency", "2s"]  # a queue that is long enough drops nothing
    _do("no card be limited", ["tc", "-n", host.name, "qdisc", "replace", "dev", host.card, "root", *bucket])


def delay(host: Host, milliseconds: float) -> None:
    """Let what ``host`` sends be late.

    Raises:
        NoNetworkError: If the system has no network emulator.
    """
    late = ["netem", "delay", f"{milliseconds}ms"]
    _do("nothing be delayed", ["tc", "-n", host.name, "qdisc", "replace", "dev", host.card, "root", *late])


def sent_by(card: str) -> int:
    """Return the bytes that a card of this process's host has sent so far."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == card:
            return int(numbers.split()[8])
    raise LookupError(f"this host has no card {card}")
