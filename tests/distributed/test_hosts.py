"""Two hosts, made of network namespaces, train what two processes of one host train, bit for bit."""

from __future__ import annotations

import subprocess
from contextlib import suppress

import pytest

from tests.distributed.launching import ELASTIC, FRAMEWORKS, TRAIN, assert_same, finish, on_one_host, reached, two_hosts


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as made:
        yield made


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What two processes on one host reach."""
    folder = tmp_path_factory.mktemp("one")
    on_one_host(folder, ",".join(FRAMEWORKS), 2, 1)
    return folder


def meet(hosts, how):
    """Return how torchrun is told on each host where to meet."""
    first = hosts[0].address
    if how == "c10d":
        # a namespace's addresses are not those of the host's name, by which torchrun would know that it is the first
        told = ["--rdzv-backend=c10d", f"--rdzv-endpoint={first}:29411", "--rdzv-id=two"]
        return [[*told, f"--rdzv-conf=is_host={here}"] for here in ("true", "false")]
    return [[f"--node-rank={rank}", f"--master-addr={first}", "--master-port=29412"] for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["c10d", pytest.param("static", marks=pytest.mark.slow)])
def test_two_hosts_reach_the_bits_of_one(how, hosts, expected, tmp_path):
    arguments = ["--nproc-per-node=1", TRAIN, tmp_path, ",".join(FRAMEWORKS), 1, 2]
    finish(*(host.torchrun(*told, *arguments) for host, told in zip(hosts, meet(hosts, how), strict=True)))
    for framework in FRAMEWORKS:
        networks = set()
        for rank in range(2):
            found = reached(tmp_path, framework, rank)
            networks.add(found["network"])
            assert_same(reached(expected, framework, rank), found)
        assert len(networks) == 2  # they were hosts indeed
    assert_same(reached(expected, "lightning"), reached(expected, "ignite"))


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_group_that_is_restarted_goes_on_to_the_exact_weights(framework, hosts, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    on_one_host(whole, framework, 2, 1, "go", script=ELASTIC)
    arguments = ["--nproc-per-node=1", "--max-restarts=1", ELASTIC, broken, framework, 1, 2, "fail"]
    finish(*(host.torchrun(*told, *arguments) for host, told in zip(hosts, meet(hosts, "c10d"), strict=True)))
    assert (broken / "failed").exists()
    for rank in range(2):
        once, again = reached(whole, framework, rank), reached(broken, framework, rank)
        assert once.pop("start") is None
        assert "step=" in again.pop("start")
        assert_same(once, again)


def failing_test():
    with suppress(ZeroDivisionError), two_hosts() as made:
        sleeper = made[0].start("sleep", "600")
        raise ZeroDivisionError
    return made, sleeper


def test_the_hosts_go_with_their_processes_though_the_test_fails():
    made, sleeper = failing_test()
    with sleeper.said:
        assert sleeper.wait(timeout=10) == -9
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert not {host.name for host in made} & {line.split()[0] for line in listed.splitlines()}
