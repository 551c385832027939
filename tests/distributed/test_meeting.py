"""Where torchrun keeps its store for the next life of a group, nobody meets those of the life before."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from torch import distributed as dist

from unitrain.distributed.launch import process_group as group

SOON = timedelta(seconds=20)


@pytest.fixture
def store(monkeypatch):
    """The store of a launcher, as a process of its finds it."""
    kept = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=SOON)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(kept.port))
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    return kept


def test_each_group_meets_in_a_part_of_its_own(store):
    for life in range(3):
        assert store.add(group._GROUPS, 0) == life
        group._meet(SimpleNamespace(rank=0, size=1), "gloo", SOON)
        left = dist.distributed_c10d._get_default_store()
        assert not left.check(["of an earlier life"])
        left.set("of an earlier life", "here")
        dist.destroy_process_group()
