"""Without the mechanism, what it prevents happens: the tests beside this one can fail."""

import gzip
import hashlib
import itertools

import pytest

import unitrain
from tests.deployment.driving import copied
from unitrain.deployment.bundle import archive, bundle, contents, entry, make, manifest, place, verify
from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.errors import DeployError

MODEL = "model/model.onnx"


def test_without_the_checksum_a_changed_model_is_read(shared, tmp_path, monkeypatch):
    folder = copied(shared, tmp_path / "out")
    (folder / MODEL).write_bytes(b"other")
    with pytest.raises(DeployError):
        read_bundle(folder)
    monkeypatch.setattr(verify, "_require_same", lambda *_: None)
    assert read_bundle(folder)


def test_without_the_checksum_the_entry_point_takes_a_changed_file(shared, tmp_path, monkeypatch):
    folder = copied(shared, tmp_path / "out")
    (folder / MODEL).write_bytes(b"other")
    with pytest.raises(entry.Refused, match="was changed"):
        entry.verified(folder)
    listed = {str(folder / name): one["sha256"] for name, one in shared.manifest["files"].items()}
    monkeypatch.setattr(entry, "_sha256", lambda path: listed[str(path)])
    assert entry.verified(folder)


def hostile(shared, tmp_path, name):
    """Return an archive with a file that leads out, which its manifest lists."""
    files = shared.manifest["files"] | {name: {"sha256": hashlib.sha256(b"mine").hexdigest(), "size": 4}}
    folder = copied(shared, tmp_path / "made" / "out")
    (folder / name).write_bytes(b"mine")
    (folder / "manifest.json").write_bytes(manifest.text_of(shared.manifest | {"files": files}))
    with (tmp_path / "hostile.tar.gz").open("xb") as file:
        archive.write(folder, files, file)
    return tmp_path / "hostile.tar.gz"


def test_without_the_check_of_paths_a_file_lands_outside(shared, tmp_path, monkeypatch):
    path = hostile(shared, tmp_path, "../x")
    with pytest.raises(DeployError, match="leads out"):
        read_bundle(path, into=tmp_path / "into")
    for one in (archive, manifest):
        monkeypatch.setattr(one, "refuse_path", lambda _: None)
    read_bundle(path, into=tmp_path / "into")
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_without_the_first_reading_a_cut_archive_leaves_files(shared, tmp_path, monkeypatch):
    data = gzip.decompress(shared.archive.read_bytes())
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(gzip.compress(data[: len(data) // 2]))
    with pytest.raises(DeployError):
        read_bundle(path, into=tmp_path / "into")
    assert not (tmp_path / "into").exists()
    monkeypatch.setattr(bundle.tar, "inspected", lambda _: shared.manifest)
    with pytest.raises(DeployError):
        read_bundle(path, into=tmp_path / "into")
    assert list((tmp_path / "into").iterdir())


def test_without_the_check_a_foreign_folder_is_replaced(onnx, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    with pytest.raises(DeployError, match="did not write it"):
        unitrain.bundle(onnx, tmp_path / "out")
    for one in (make, place):
        monkeypatch.setattr(one, "require_place", lambda _: None)
    unitrain.bundle(onnx, tmp_path / "out")
    assert not (tmp_path / "out" / "mine").exists()


def test_with_a_time_two_archives_differ(shared, tmp_path, monkeypatch):
    times = itertools.count()

    class Dated(archive.tarfile.TarInfo):
        def get_info(self):
            return super().get_info() | {"mtime": next(times)}

    def written(name):
        with (tmp_path / name).open("xb") as file:
            archive.write(shared.path, shared.manifest["files"], file)
        return (tmp_path / name).read_bytes()

    assert written("0") == written("1") == shared.archive.read_bytes()
    monkeypatch.setattr(archive.tarfile, "TarInfo", Dated)
    assert written("2") != written("3")


def test_a_module_that_is_left_out_is_missed(onnx, tmp_path, monkeypatch):
    """The bundle's own part of unitrain is what runs: the one that is installed here does not fill a gap."""
    found = contents.vendored("onnx")
    less = {name: one for name, one in found.items() if name != "unitrain/serving/protocols/npy.py"}
    assert len(less) == len(found) - 1
    monkeypatch.setattr(contents, "vendored", lambda _: less)
    report = unitrain.bundle(onnx, tmp_path / "out").check()
    assert [one.what for one in report.checks if not one.passed] == ["ready"] * 4
    assert "'unitrain.serving.protocols" in report.checks[1].found
