"""Each tensor is compared with its checksum while torch reads it, also by several threads."""

from __future__ import annotations

import os
import random
import zipfile
import zlib

import pytest
import torch

from unitrain import CheckpointError, load_weights
from unitrain.checkpoint import io, verified_file

SIZES = {"pieces": (2**10, 10), "whole blocks": (2**13, 12), "blocks and a rest": (2**13 + 100, 12)}
"""Numbers in the tensor, and the logarithm of a block in bytes: less than two blocks, eight, and eight with a rest."""


@pytest.fixture(params=["one thread", "threads", "no preadv"])
def way(request, monkeypatch):
    monkeypatch.setattr(verified_file, "_cores", lambda: 1 if request.param == "one thread" else 3)
    if request.param == "no preadv":
        monkeypatch.delattr(os, "preadv")
    return request.param


@pytest.fixture(params=SIZES)
def made(request, tmp_path, monkeypatch):
    """A file with small blocks, its weights, and the bytes of its large tensor."""
    numbers, logarithm = SIZES[request.param]
    for name, value in {"_LOG_OF_BLOCK": logarithm, "_BLOCK": 2**logarithm, "_PIECE": 700}.items():
        monkeypatch.setattr(verified_file, name, value)
    operator = verified_file._beyond_a_block
    operator.cache_clear()
    torch.manual_seed(0)
    weights = {"large": torch.randn(numbers), "small": torch.randn(3), "none": torch.empty(0)}
    path = tmp_path / "run.ckpt"
    io.write(path, {"state_dict": weights})
    begin = path.read_bytes().index(weights["large"].numpy().tobytes())
    yield path, weights, range(begin, begin + 4 * numbers)
    operator.cache_clear()


def broken_at(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << random.Random(position).randrange(8)
    broken = path.with_name("broken.ckpt")
    broken.write_bytes(content)
    return broken


def test_what_is_whole_is_read_and_what_is_not_is_refused(way, made):
    path, weights, place = made
    found = load_weights(path)
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    middle = random.Random(0).sample(place, 20)
    for position in (place[0], place[-1], *middle):
        with pytest.raises(CheckpointError, match=r"damaged: .*data/\d does not match its checksum"):
            load_weights(broken_at(path, position))


@pytest.mark.parametrize(
    ("name", "fault"),
    [("_beyond_a_block", lambda: tuple(1 << bit for bit in range(32))), ("_times", lambda matrix, checksum: checksum)],
)
@pytest.mark.parametrize("made", ["whole blocks"], indirect=True)
@pytest.mark.parametrize("way", ["threads"], indirect=True)
def test_checksums_that_are_joined_wrongly_would_be_noticed(name, fault, way, made, monkeypatch):
    monkeypatch.setattr(verified_file, name, fault)
    with pytest.raises(CheckpointError):
        test_what_is_whole_is_read_and_what_is_not_is_refused(way, made)


@pytest.mark.parametrize("made", ["whole blocks"], indirect=True)
def test_a_reader_that_compares_nothing_would_be_noticed(made, monkeypatch):
    monkeypatch.setattr(verified_file.zlib, "crc32", lambda data, before=0: 0)
    monkeypatch.setattr(
        verified_file.VerifiedFile,
        "_member",
        lambda self, info, real=verified_file.VerifiedFile._member: real(self, info)._replace(checksum=0),
    )
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_what_is_whole_is_read_and_what_is_not_is_refused("threads", made)


@pytest.mark.parametrize("made", ["pieces"], indirect=True)
def test_nothing_damaged_is_unpickled(made, monkeypatch):
    path = made[0]
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read"))
    content = path.read_bytes()
    for name in ("data.pkl", "version", "byteorder"):
        with zipfile.ZipFile(path) as archive:
            data = archive.read(f"archive/{name}")
        start = content.index(data, content.index(f"archive/{name}".encode()))
        with pytest.raises(CheckpointError, match=f"damaged: .*{name} does not match its checksum"):
            load_weights(broken_at(path, start))


@pytest.mark.parametrize("made", ["pieces"], indirect=True)
def test_what_torch_does_not_read_is_verified_too(made, tmp_path):
    with zipfile.ZipFile(made[0], "a") as archive:
        archive.writestr("archive/data/7", b"not needed")
    assert load_weights(made[0])
    with pytest.raises(CheckpointError, match=r"damaged: .*data/7 does not match its checksum"):
        load_weights(broken_at(made[0], made[0].read_bytes().index(b"not needed")))


def test_a_checksum_is_continued_over_a_block():
    first, second = random.Random(0).randbytes(1234), random.Random(1).randbytes(verified_file._BLOCK)
    joined = verified_file._times(verified_file._beyond_a_block(), zlib.crc32(first)) ^ zlib.crc32(second)
    assert joined == zlib.crc32(first + second)
