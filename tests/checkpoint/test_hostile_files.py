"""A damaged, hostile or odd file is a CheckpointError that says what it is: no raw error, no hang, nothing inflated."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import socket
import struct
import zipfile
from functools import partial
from pathlib import Path

import pytest
import torch

import unitrain
from unitrain import CheckpointError, UnifiedTrainer
from unitrain.checkpoint import integrity, io
from unitrain.checkpoint import sharded_files as parts
from unitrain.testing.cases import spec
from unitrain.testing.models import loader


def resume(path, framework="ignite"):
    UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False).fit(spec(), loader(), ckpt_path=path)


def evaluate(path):
    UnifiedTrainer("reference", enable_progress_bar=False).validate(spec(), loader(), ckpt_path=path)


def convert(path):
    unitrain.convert_checkpoint(path, Path(path).with_name("converted"), "safetensors", overwrite=True)


READERS = {
    "load_weights": unitrain.load_weights,
    "convert": convert,
    "validate": evaluate,
    **{name: partial(resume, framework=name) for name in ("reference", "lightning", "ignite")},
}
QUICK = {"load_weights": unitrain.load_weights, "convert": convert}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False)
    trainer.fit(spec(), loader())
    trainer.save_checkpoint(tmp_path_factory.mktemp("good") / "good.ckpt")
    return tmp_path_factory.getbasetemp().glob("good*/good.ckpt").__next__()


def in_time(read, path, seconds=20):
    """Return what ``read`` raises; a process that waits for ever is ended, and fails the test."""
    pipe, there = multiprocessing.Pipe(duplex=False)

    def work():
        try:
            read(path)
        except BaseException as error:  # noqa: BLE001 - whatever a loaded_by lets out is reported
            there.send((type(error).__name__, str(error)))
        else:
            there.send(("nothing", ""))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    try:
        assert pipe.poll(seconds), f"{read} waits for ever"
        return pipe.recv()
    finally:
        process.kill()
        process.join()


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


ODD = {
    "dangling link": (lambda path: path.symlink_to("gone"), "does not exist"),
    "link loop": (lambda path: path.symlink_to(path.name), "does not exist"),
    "pipe": (os.mkfifo, "is a named pipe"),
    "folder": (Path.mkdir, "no valid index.json"),
    "socket": (make_socket, "is a socket"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "nothing": (lambda path: None, "does not exist"),
    "empty": (Path.touch, "damaged"),
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_entry_is_named(kind, tmp_path, good, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    make, message = ODD[kind]
    shutil.copy(good, "older.ckpt")
    make(Path("odd.ckpt"))
    for read in QUICK.values():
        name, said = in_time(read, Path("odd.ckpt"))
        assert name == "CheckpointError", said
        assert message in said
        assert "Hint: " in said


@pytest.mark.parametrize("kind", ODD)
def test_a_damaged_file_beside_an_odd_entry_names_the_newest_good_one(kind, tmp_path, good, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(good, "older.ckpt")
    ODD[kind][0](Path("x.ckpt"))
    Path("bad.ckpt").write_bytes(good.read_bytes()[:5000])
    for read in QUICK.values():
        name, said = in_time(read, Path("bad.ckpt"))
        assert (name, "damaged" in said) == ("CheckpointError", True), said
    assert "older.ckpt" in in_time(unitrain.load_weights, Path("bad.ckpt"))[1]


@pytest.mark.parametrize("kind", ["dangling link", "link loop"])
def test_without_the_look_at_the_entry_it_is_called_damaged(kind, tmp_path, monkeypatch):
    """A negative control: the reader itself finds no better words."""
    make, message = ODD[kind]
    make(tmp_path / "odd.ckpt")
    monkeypatch.setattr(io, "require_file", lambda path: None)
    monkeypatch.setattr(parts, "require_file", lambda path: None)
    assert message not in in_time(unitrain.load_weights, tmp_path / "odd.ckpt")[1]


@pytest.mark.parametrize("kind", ["dangling link", "link loop"])
def test_without_the_look_at_neighbours_a_raw_error_is_raised(kind, tmp_path, good, monkeypatch):
    ODD[kind][0](tmp_path / "x.ckpt")
    (tmp_path / "bad.ckpt").write_bytes(good.read_bytes()[:5000])
    monkeypatch.setattr(integrity, "_files_beside", lambda path: [one for one in path.parent.iterdir() if one.stat()])
    assert in_time(unitrain.load_weights, tmp_path / "bad.ckpt")[0] != "CheckpointError"


def test_a_bad_neighbour_is_not_named_and_a_good_one_is(tmp_path, good):
    for name in ("bad", "worse", "good", "older"):
        (tmp_path / f"{name}.ckpt").write_bytes(good.read_bytes()[: None if name in ("good", "older") else 3000])
    os.utime(tmp_path / "older.ckpt", (1, 1))
    with pytest.raises(CheckpointError, match=r"newest valid checkpoint beside it is .*good\.ckpt"):
        io.read(tmp_path / "bad.ckpt")


@pytest.mark.parametrize("loaded_by", READERS)
def test_a_pipe_is_refused_by_every_reader(loaded_by, tmp_path):
    os.mkfifo(tmp_path / "run.ckpt")
    assert in_time(READERS[loaded_by], tmp_path / "run.ckpt")[0] == "CheckpointError"
    folder = tmp_path / "parts"
    folder.mkdir()
    os.mkfifo(folder / "index.json")
    assert in_time(READERS[loaded_by], folder)[0] == "CheckpointError"


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
@pytest.mark.parametrize("loaded_by", QUICK)
def test_a_file_that_may_not_be_read_is_not_called_damaged(loaded_by, suffix, tmp_path, good, monkeypatch):
    """Root may read anything, so the system call says what it would say to another user."""
    path = tmp_path / f"run{suffix}"
    shutil.copy(good, path)
    real = Path.open

    def refuse(self, *args, **kwargs):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match=r"cannot be read: permission denied[\s\S]*Hint: chmod") as caught:
        QUICK[loaded_by](path)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("loaded_by", QUICK)
def test_a_folder_that_may_not_be_entered_is_named(loaded_by, tmp_path, monkeypatch):
    real = Path.stat

    def refuse(self, **options):
        if self.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(CheckpointError, match="permission denied"):
        QUICK[loaded_by](tmp_path / "run.ckpt")


@pytest.mark.parametrize(
    "name", ["a\0b.ckpt", "a" * 300, "a\0b.safetensors"], ids=["nul", "long", "nul of safetensors"]
)
@pytest.mark.parametrize("loaded_by", READERS)
def test_a_name_that_no_file_has_is_a_checkpoint_error(loaded_by, name, tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        READERS[loaded_by](tmp_path / name)


def test_a_pipe_is_no_safetensors_file(tmp_path):
    os.mkfifo(tmp_path / "w.safetensors")
    for read in QUICK.values():
        assert "named pipe" in in_time(read, tmp_path / "w.safetensors")[1]


# --- bombs ------------------------------------------------------------------------------------------------------------


def bomb(good, path, size):
    """Write ``good`` anew with a member that is ``size`` zeros, deflated."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for one in source.infolist():
            with target.open(one.filename, "w") as member:
                if one.filename.endswith("data/0"):
                    for _ in range(size >> 20):
                        member.write(bytes(1 << 20))
                else:
                    member.write(source.read(one.filename))


@pytest.mark.parametrize("loaded_by", READERS)
def test_a_bomb_is_refused_before_it_is_inflated(loaded_by, tmp_path, good, monkeypatch):
    bomb(good, tmp_path / "bomb.ckpt", 64 << 20)
    assert (tmp_path / "bomb.ckpt").stat().st_size < 1 << 20
    inflated = []
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *args: inflated.append(args) or b"")
    with pytest.raises(CheckpointError, match=r"compressed or encrypted, \d+ bytes that would become 67108864"):
        READERS[loaded_by](tmp_path / "bomb.ckpt")
    assert not inflated


def test_a_bomb_as_a_neighbour_is_not_inflated(tmp_path, good, monkeypatch):
    bomb(good, tmp_path / "bomb.ckpt", 8 << 20)
    (tmp_path / "bad.ckpt").write_bytes(b"PK")
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda *_: pytest.fail("inflated"))
    with pytest.raises(CheckpointError, match="damaged"):
        unitrain.load_weights(tmp_path / "bad.ckpt")


@pytest.mark.parametrize("loaded_by", QUICK)
def test_members_that_overlap_are_refused(loaded_by, tmp_path, good):
    """The directory names one member many times: stored, and yet more than the file has."""
    content = bytearray(good.read_bytes())
    end = content.rindex(b"PK\5\6")
    size, offset = struct.unpack_from("<II", content, end + 12)
    entries = bytes(content[offset : offset + size]) * 200
    count = struct.unpack_from("<H", content, end + 10)[0] * 200
    tail = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(entries), offset, 0)
    (tmp_path / "many.ckpt").write_bytes(bytes(content[:offset]) + entries + tail)
    with pytest.raises(CheckpointError, match=r"larger than the file|Overlapped|same name"):
        QUICK[loaded_by](tmp_path / "many.ckpt")


# --- bits -------------------------------------------------------------------------------------------------------------


def flipped(content, positions, path, read):
    """Return how often a flipped bit was refused, and how often it changed nothing."""
    refused = same = 0
    path.write_bytes(content)
    expected = read(path)
    for position in positions:
        broken = bytearray(content)
        broken[position // 8] ^= 1 << position % 8
        path.write_bytes(broken)
        try:
            found = read(path)
        except CheckpointError:
            refused += 1
            continue
        same += 1
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected), position
    return refused, same


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small file, and the bits of its directory."""
    path = tmp_path_factory.mktemp("small") / "small.ckpt"
    io.write(
        path,
        {"state_dict": {"model.w": torch.arange(3.0), "head.w": torch.arange(2)}, "pytorch-lightning_version": "2.6.6"},
    )
    content = path.read_bytes()
    return path, content, range(8 * content.index(b"PK\1\2"), 8 * len(content))


def weights_through_convert(path):
    target = path.with_name("out.safetensors")
    unitrain.convert_checkpoint(path, target, "safetensors", overwrite=True)
    return unitrain.load_weights(target)


def test_a_member_that_is_marked_as_a_folder_is_refused(small):
    """torch's loaded_by leaves the memory of such a member as it was, without an error."""
    path, content, _bits = small
    broken = bytearray(content)
    broken[content.rindex(b"PK\1\2", 0, content.rindex(b"data/0")) + 38] ^= 0x10
    path.write_bytes(broken)
    torch.load(path, weights_only=True)  # this is what is not to be relied on
    for read in QUICK.values():
        with pytest.raises(CheckpointError, match="marked as a directory"):
            read(path)
    path.write_bytes(content)


@pytest.mark.parametrize("read", [unitrain.load_weights, weights_through_convert], ids=["read", "convert"])
def test_a_flipped_bit_of_the_directory_is_refused_or_changes_nothing(small, read):
    path, content, bits = small
    whole = read is unitrain.load_weights
    refused, same = flipped(content, bits[::7] if whole else bits[-22 * 8 :: 3], path, read)
    assert refused > 5
    assert same > 0  # times and attributes


@pytest.mark.slow
@pytest.mark.parametrize("read", [unitrain.load_weights, weights_through_convert], ids=["read", "convert"])
def test_any_flipped_bit_is_refused_or_changes_nothing(small, read):
    path, content, bits = small
    flipped(content, bits, path, read)
    flipped(content, range(0, bits[0], 1 if read is unitrain.load_weights else 7), path, read)


@pytest.mark.parametrize("keep", [0, 1, 4, 22, 100, 500, -1, -22, -60])
def test_a_file_that_was_cut_off_is_damaged(keep, small, tmp_path):
    (tmp_path / "cut.ckpt").write_bytes(small[1][:keep])
    for read in QUICK.values():
        with pytest.raises(CheckpointError, match=r"damaged[\s\S]*Hint: "):
            read(tmp_path / "cut.ckpt")


@pytest.mark.parametrize(
    "index",
    ["", "[]", "7", '{"data": 3}', "[" * 100_000, '{"data": "../x", "ranks": 1, "format": 1}', "\0"],
    ids=["empty", "list", "number", "no name", "nested", "outside", "nul"],
)
def test_a_bad_index_of_parts_is_refused(index, tmp_path):
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(CheckpointError, match=r"Hint: |damaged"):
        parts.read(tmp_path)


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", ["whole", "parts", "convert"])
def test_a_full_disk_is_a_checkpoint_error(write, tmp_path, good):
    trainer = UnifiedTrainer("reference", max_epochs=1, enable_progress_bar=False)
    trainer.fit(spec(), loader())
    ways = {
        "whole": lambda: trainer.save_checkpoint(tmp_path / "a.ckpt"),
        "parts": lambda: trainer.save_checkpoint(tmp_path / "a", sharded=True),
        "convert": lambda: unitrain.convert_checkpoint(good, tmp_path / "a", "lightning"),
    }
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written[\s\S]*Hint: .*space"):
            ways[write]()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not [one for one in tmp_path.rglob("*") if one.is_file()]
