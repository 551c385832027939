"""`make bench-gpu`: its code runs, with a tiny size, and refuses a variant that does other work."""

import pytest
import torch

from tests.bench import gpu
from tests.bench.device_work import TINY, by_hand, works


@pytest.fixture
def deterministic():
    gpu.deterministic()
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.mark.usefixtures("deterministic")
def test_each_item_is_compared_with_the_loop_by_hand(device):
    found = [*gpu.compared(device, TINY, rounds=1)]
    assert [one["work"] for one in found] == ["W2", "W5 large", "AMP convolutions"]
    for item in found:
        plain = [f"unitrain on {name}" for name in gpu.FRAMEWORKS]
        prefetching = [f"{name}, prefetching" for name in plain] if device.type == "cuda" else []
        assert [*item["variants"]] == plain + prefetching
        assert all(row["ratio"] > 0 for row in item["variants"].values())
        assert all((row["memory"] is None) == (device.type == "cpu") for row in item["variants"].values())
        assert item["work"] in gpu.told(item)


@pytest.mark.usefixtures("deterministic")
def test_a_variant_of_another_precision_is_refused(device, monkeypatch):
    work = works(device, TINY)["AMP convolutions"]
    monkeypatch.setattr(gpu, "variants_of", lambda *_: {"other": by_hand(device, "32-true")})
    monkeypatch.setattr(gpu, "works", lambda *_: {work.name: work})
    with pytest.raises(AssertionError, match="differ"):
        [*gpu.compared(device, TINY, rounds=1)]
