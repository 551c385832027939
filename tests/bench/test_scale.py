"""The formulas of docs/scale.md: what they say of simple cases, and what the cards of real hosts count."""

from math import isclose

import pytest

from tests.bench import scale, scale_model
from tests.bench.scale_model import Cluster, Link, Workload, all_gather, all_reduce, hierarchical, reduce_scatter
from tests.distributed.network import NoNetworkError

MIB = 2**20


def test_a_ring_sends_what_its_parts_send():
    for size in (2, 3, 8, 1024):
        whole = reduce_scatter(size, MIB) + all_gather(size, MIB)
        assert isclose(whole.payload, all_reduce(size, MIB).payload)
        assert whole.messages == all_reduce(size, MIB).messages == 2 * (size - 1)
    assert all_reduce(2, MIB).payload == MIB
    assert all_reduce(1024, MIB).payload < 2 * MIB  # it does not grow with the number of processes


def test_sharding_sends_half_as_much_again_as_ddp():
    """As the authors of ZeRO say of its third stage; gloo, which all-reduces instead of a reduce-scatter, twice as much."""
    model = Workload((MIB,) * 8, 0, 8)
    plain, parts = (kind(4, model).payload - all_reduce(4, 8).payload for kind in (scale_model.ddp, scale_model.fsdp))
    used = all_reduce(4, 4 * 8).payload
    assert isclose(parts, 1.5 * (plain - used))
    assert isclose(scale_model.fsdp(4, model, gloo=True).payload - all_reduce(4, 8).payload, 2 * (plain - used))


def test_more_buckets_send_as_many_bytes_in_more_messages():
    one, four = (scale_model.ddp(2, Workload((MIB,) * 4, 0, 4, buckets)) for buckets in (1, 4))
    assert isclose(one.payload, four.payload)
    assert (one.messages, four.messages) == (4, 10)


def test_stages_beat_one_ring_where_hosts_are_slowly_joined():
    cluster = Cluster(4, 8, Link(300e9), Link(50e9))
    length = 1e9
    ring = Link(50e9).seconds(all_reduce(32, length))
    assert hierarchical(cluster, length) < ring
    assert isclose(
        hierarchical(Cluster(4, 1, Link(300e9), Link(50e9)), length), Link(50e9).seconds(all_reduce(4, length))
    )


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["ignite", "lightning"])
@pytest.mark.parametrize(("strategy", "size"), [("ddp", 2), ("ddp", 4), ("fsdp", 2), ("fsdp", 4)])
def test_cards_count_what_the_formulas_say(strategy, size, framework):
    try:
        found = scale.measured(strategy, size, framework=framework)
    except NoNetworkError as error:
        pytest.skip(str(error))
    least, most = scale_model.on_the_wire(size, scale.predicted(strategy, size))
    assert least <= found.bytes <= most
    other = scale.predicted({"ddp": "fsdp", "fsdp": "ddp"}[strategy], size)
    assert abs(found.bytes / other.payload - 1) > 0.4  # the control: the formula of the other strategy is far off


@pytest.mark.slow
def test_a_slow_card_takes_as_long_as_the_formula_says():
    try:
        quick = scale.measured("ddp", 2)
        row = scale.compared("ddp", 2, "40mbit", quick)
    except NoNetworkError as error:
        pytest.skip(str(error))
    assert row.seconds > 2 * quick.seconds  # else nothing was limited
    assert isclose(row.predicted, row.seconds, rel_tol=0.15)  # a busy machine is late; see the table for an idle one
