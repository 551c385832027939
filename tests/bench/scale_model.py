"""How many bytes and messages a step exchanges, and how long that takes, by formulas; docs/scale.md has their sources."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2
from typing import NamedTuple

HEADERS = 14 + 20 + 20 + 12
"""Bytes around a segment: Ethernet, IPv4, TCP and its time stamps."""
SEGMENT = 1500 - (HEADERS - 14)
"""Bytes of a segment on Ethernet."""
MESSAGE = 3 * 64
"""Bytes around a message of gloo: two notices and a header, each of some 48 bytes."""
OVERHEAD = (HEADERS + HEADERS / 2) / SEGMENT
"""What TCP may add to each byte: headers of its segments, and an acknowledgement for every two."""


class Exchange(NamedTuple):
    """What one process sends in one collective, or in one step; it receives as much.

    Attributes:
        payload: Bytes of tensors.
        messages: Messages one after the other: each waits for the one before.
    """

    payload: float
    messages: int

    def __add__(self, other: Exchange) -> Exchange:  # type: ignore[override]
        """Return both, one after the other."""
        return Exchange(self.payload + other.payload, self.messages + other.messages)

    def times(self, number: int) -> Exchange:
        """Return it so many times."""
        return Exchange(self.payload * number, self.messages * number)


NOTHING = Exchange(0.0, 0)


@dataclass(frozen=True)
class Link:
    """The way from a process to the next one.

    Attributes:
        bandwidth: Bytes a second, in each direction.
        latency: Seconds until a message of no length is there.
    """

    bandwidth: float
    latency: float = 0.0

    def seconds(self, exchange: Exchange, *, wire: float = 0.0) -> float:
        """Return how long an exchange takes; ``wire`` is what the protocol adds to each byte."""
        return exchange.messages * self.latency + exchange.payload * (1 + wire) / self.bandwidth


def all_reduce(size: int, length: float) -> Exchange:
    """Return what a ring all-reduce of ``length`` bytes sends: each part goes around twice."""
    return Exchange(2 * (size - 1) / size * length, 2 * (size - 1))


def all_gather(size: int, length: float) -> Exchange:
    """Return what a ring all-gather sends, of ``length`` bytes in all."""
    return Exchange((size - 1) / size * length, size - 1)


def reduce_scatter(size: int, length: float) -> Exchange:
    """Return what a ring reduce-scatter of ``length`` bytes sends."""
    return Exchange((size - 1) / size * length, size - 1)


def tree_all_reduce(size: int, length: float) -> Exchange:
    """Return what an all-reduce by two trees sends: as many bytes as a ring's in the limit, and fewer messages."""
    return Exchange(2 * (size - 1) / size * length, 2 * ceil(log2(size)))


AGREEMENT = 2 * 4
"""unitrain's own after each batch: two numbers of 32 bits, on which the processes agree (stop, save)."""


@dataclass(frozen=True)
class Workload:
    """A model, as the exchanges of a step see it.

    Attributes:
        units: Bytes of the parameters of each unit that FSDP gathers by itself.
        root: Bytes of the parameters that belong to no unit.
        tensors: How many parameters there are.
        buckets: In how many buckets DDP exchanges the gradients.
    """

    units: tuple[int, ...]
    root: int
    tensors: int
    buckets: int = 1

    @property
    def length(self) -> int:
        """The bytes of all parameters."""
        return sum(self.units) + self.root


def ddp(size: int, model: Workload) -> Exchange:
    """Return what a step with DDP sends: the gradients in buckets, which parameters were used, and the agreement.

    unitrain lets DDP look for unused parameters with three processes and more, so that a resumed run adds in the same
    order; torch then all-reduces a number of 32 bits for each.
    """
    bucket = all_reduce(size, model.length / model.buckets)
    used = all_reduce(size, 4 * model.tensors) if size > 2 else NOTHING
    return bucket.times(model.buckets) + used + all_reduce(size, AGREEMENT)


def fsdp(size: int, model: Workload, *, gloo: bool = False) -> Exchange:
    """Return what a step with FSDP sends: units are gathered for the forward and the backward pass, the root once.

    gloo has no reduce-scatter of its own: torch all-reduces instead, which is twice as much.
    """
    reduced = all_reduce if gloo else reduce_scatter
    total = all_reduce(size, AGREEMENT)
    for unit in model.units:
        total += all_gather(size, unit).times(2) + reduced(size, unit)
    if model.root:
        total += all_gather(size, model.root) + reduced(size, model.root)
    return total


def on_the_wire(size: int, exchange: Exchange) -> tuple[float, float]:
    """Return between how many bytes and how many a network card counts for an exchange over gloo and TCP."""
    messages = exchange.messages * MESSAGE
    return exchange.payload, (exchange.payload + messages) * (1 + OVERHEAD) + exchange.messages * 3 * HEADERS


@dataclass(frozen=True)
class Cluster:
    """Hosts with GPUs.

    Attributes:
        hosts: How many.
        gpus: On each host.
        within: The link between GPUs of a host.
        between: The link of a host to the others, all its cards together.
    """

    hosts: int
    gpus: int
    within: Link
    between: Link


def cluster(hosts: int, between: float, latency: float = 10e-6) -> Cluster:
    """Return a cluster of hosts with eight GPUs, joined by 300 GB/s within a host.

    Args:
        hosts: How many.
        between: Bytes a second from a host to the others.
        latency: Seconds from a host to another.
    """
    return Cluster(hosts, 8, Link(300e9, 3e-6), Link(between, latency))


def hierarchical(cluster: Cluster, length: float) -> float:
    """Return the seconds of an all-reduce by stages: reduce-scatter in the host, all-reduce between hosts, all-gather.

    Each GPU exchanges its part with those of the same number on other hosts, and they share the host's link.
    """
    inside = reduce_scatter(cluster.gpus, length) + all_gather(cluster.gpus, length)
    own = all_reduce(cluster.hosts, length / cluster.gpus)
    across = Exchange(own.payload * cluster.gpus, own.messages)
    return cluster.within.seconds(inside) + cluster.between.seconds(across)
