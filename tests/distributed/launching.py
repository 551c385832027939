"""Starts scripts by torchrun, on this host or on two that are made of network namespaces, and ends what it started."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from unitrain.testing.trace import differences

TRAIN = Path(__file__).parent / "train.py"
ELASTIC = Path(__file__).parent / "elastic.py"
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
FRAMEWORKS = ("lightning", "ignite")
PATIENCE = 200
"""Seconds; a run takes ten on an idle machine."""


def environment(**changes):
    """Return this process's environment with one thread for each and no trace of a launcher."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC_"))}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        mine.pop(name, None)
    return mine | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONFAULTHANDLER": "1"} | changes


def start(command, **changes):
    """Start ``command`` as the head of a group of processes, which ``finish`` can end as a whole."""
    said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - `finish` reads and closes it
    process = subprocess.Popen(
        [str(one) for one in command],
        env=environment(**changes),
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    process.said = said
    return process


def finish(*processes, patience=PATIENCE):
    """Wait for processes and return what each has written; whatever happens, none is left."""
    end = time.monotonic() + patience
    late = []
    try:
        for process in processes:
            try:
                process.wait(timeout=max(1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(process.args)
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    texts = [said_by(process) for process in processes]
    assert not late, "\n".join(["these did not end:", *map(str, late), *texts])
    for process, text in zip(processes, texts, strict=True):
        assert process.returncode == 0, text
    return texts


def said_by(process) -> str:
    with process.said as said:
        said.seek(0)
        return said.read()


def on_one_host(folder, *arguments, count=2, script=TRAIN):
    """Run a script by torchrun in ``count`` processes of this host."""
    finish(start([*TORCHRUN, "--standalone", f"--nproc-per-node={count}", script, folder, *arguments]))


def reached(folder, framework, rank=0):
    return torch.load(Path(folder, f"{framework}-{rank}.pt"), weights_only=False)


def assert_same(expected, found):
    """Every bit, wherever it was trained."""
    assert expected["step"] > 0
    assert differences(without_place(expected), without_place(found)) == []
    for name, value in expected["weights"].items():
        assert torch.equal(value, found["weights"][name]), name


def without_place(reached):
    return {name: value for name, value in reached.items() if name != "network"}


class Host:
    """A network namespace: a host with an address, interfaces and ports of its own.

    Args:
        name: Of the namespace.
        address: In the network of the two.
        card: The name of its interface there.
    """

    def __init__(self, name, address, card) -> None:
        self.name, self.address, self.card = name, address, card
        self._started = []

    def start(self, *command, **changes):
        """Start a command there."""
        process = start([*_IN, self.name, *command], GLOO_SOCKET_IFNAME=self.card, **changes)
        self._started.append(process)
        return process

    def stop(self):
        """Kill what was started here, even if `ip` has not entered the namespace yet and so is not listed in it."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def torchrun(self, *arguments, **changes):
        """Start torchrun there; namespaces have one host name, so each is told its address."""
        return self.start(*TORCHRUN, "--nnodes=2", f"--local-addr={self.address}", *arguments, **changes)


_PAIR = itertools.cycle(range(10))
_IN = ("ip", "netns", "exec")


def ip(*arguments) -> None:
    """Change the network."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextmanager
def two_hosts():
    """Yield two hosts that are joined by a cable; skip where the system lets nobody make them.

    Their processes and themselves are gone afterwards, whatever happens.
    """
    if shutil.which("ip") is None:
        pytest.skip("two hosts need the program `ip` (Debian: iproute2)")
    unique = f"ut{os.getpid()}{next(_PAIR)}"  # a card's name has 15 letters at most
    names = cards = [f"{unique}{side}" for side in "ab"]
    hosts = [Host(name, f"10.77.0.{n}", card) for n, (name, card) in enumerate(zip(names, cards, strict=True), 1)]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this system lets no network namespaces be made: {error.stderr.strip()}")
        try:
            ip("link", "add", cards[0], "netns", names[0], "type", "veth", "peer", cards[1], "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this system lets no virtual cable be made: {error.stderr.strip()}")
        for host in hosts:
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.card)
            ip("-n", host.name, "link", "set", "lo", "up")
            ip("-n", host.name, "link", "set", host.card, "up")
        yield hosts
    finally:
        for host in hosts:
            host.stop()
            remove(host.name)


def remove(name) -> None:
    """Remove a namespace, the processes in it, and by that its end of the cable."""
    found = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True)
    for process in found.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
