"""Archives and folders that others made or changed: refused before anything is written."""

import gzip
import io
import json
import os
import shutil
import tarfile

import pytest

from tests.deployment.driving import copied
from unitrain.deployment.bundle import archive as tar
from unitrain.deployment.bundle.bundle import read_bundle
from unitrain.deployment.bundle.manifest import text_of
from unitrain.errors import DeployError


def member(name, content=b"x", **more):
    """Return a member and its content."""
    one = tarfile.TarInfo(name)
    one.size = len(content)
    for key, value in more.items():
        setattr(one, key, value)
    return one, content


def members_of(bundle):
    """Return the members of a bundle's archive."""
    with tarfile.open(bundle.archive) as archive:
        return [(one, archive.extractfile(one).read()) for one in archive.getmembers()]


def packed(path, members, tail=b"", **options):
    """Write an archive, and return its path."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", **{"format": tarfile.GNU_FORMAT} | options) as archive:
        for one, data in members:
            archive.addfile(one, io.BytesIO(data))
    path.write_bytes(gzip.compress(content.getvalue() + tail))
    return path


def link(name, kind, target="/etc/passwd"):
    return member(name, b"", type=kind, linkname=target)


def without(bundle, name):
    return [one for one in members_of(bundle) if one[0].name != name]


def instead(bundle, name, *others):
    return [*without(bundle, name), *others]


def manifest(bundle, **changes):
    told = json.loads((bundle.path / "manifest.json").read_text()) | changes
    return member("manifest.json", text_of(told))


def listing(bundle, **files):
    """Return the members with a manifest that lists other files."""
    told = dict(bundle.manifest["files"]) | files
    return [manifest(bundle, files=told), *without(bundle, "manifest.json")]


MODEL = "model/model.onnx"
PAX = {"format": tarfile.PAX_FORMAT}
HOSTILE = {
    "a path that leads out": (lambda one: [*members_of(one), member("../x")], {}, "'../x': it leads out of the folder"),
    "a path that leads out deeper": (
        lambda one: [*members_of(one), member("model/../../x")],
        {},
        "it leads out of the folder",
    ),
    "an absolute path": (lambda one: [*members_of(one), member("/tmp/x")], {}, "'/tmp/x': it is absolute"),
    "a path of Windows": (lambda one: [*members_of(one), member("C:\\x")], {}, "it is absolute"),
    "a backslash": (lambda one: [*members_of(one), member("model\\x")], {}, "no file of a bundle has such a name"),
    "a newline": (lambda one: [*members_of(one), member("model/x\n")], {}, "no file of a bundle has such a name"),
    "a dot": (lambda one: [*members_of(one), member("./x")], {}, "no file of a bundle has such a name"),
    "a link": (lambda one: instead(one, MODEL, link(MODEL, tarfile.SYMTYPE)), {}, "it is a link"),
    "a link that leads out": (lambda one: [link("model", tarfile.SYMTYPE, ".."), *members_of(one)], {}, "it is a link"),
    "a hard link": (lambda one: instead(one, MODEL, link(MODEL, tarfile.LNKTYPE)), {}, "it is a hard link"),
    "a device": (lambda one: instead(one, MODEL, link(MODEL, tarfile.BLKTYPE)), {}, "it is a device"),
    "a terminal": (lambda one: instead(one, MODEL, link(MODEL, tarfile.CHRTYPE)), {}, "it is a device"),
    "a pipe": (lambda one: instead(one, MODEL, link(MODEL, tarfile.FIFOTYPE)), {}, "it is a pipe"),
    "a folder": (lambda one: [link("model", tarfile.DIRTYPE), *members_of(one)], {}, "it is a folder"),
    "a sparse file": (lambda one: instead(one, MODEL, link(MODEL, tarfile.GNUTYPE_SPARSE)), {}, "it is a sparse file"),
    "a header of pax": (
        lambda one: instead(one, MODEL, member(MODEL, pax_headers={"path": "../x"})),
        PAX,
        "it is an extension of the format",
    ),
    "a long name": (lambda one: [*members_of(one), member("a/" * 80 + "b")], {}, "an extension of the format"),
    "one name twice": (lambda one: [*members_of(one), member(MODEL)], {}, "twice, or it is not listed"),
    "two manifests": (lambda one: [*members_of(one), manifest(one)], {}, "twice, or it is not listed"),
    "a file that is not listed": (
        lambda one: [*members_of(one), member(".env")],
        {},
        "'.env' twice, or it is not listed",
    ),
    "a missing file": (lambda one: without(one, MODEL), {}, "model/model.onnx is missing"),
    "another model": (lambda one: instead(one, MODEL, member(MODEL, b"other")), {}, "has 5 bytes, not"),
    "no manifest": (lambda one: without(one, "manifest.json"), {}, "does not begin with manifest.json"),
    "a manifest at the end": (
        lambda one: instead(one, "manifest.json", manifest(one)),
        {},
        "does not begin with manifest.json",
    ),
    "nothing": (lambda one: [], {}, "does not begin with manifest.json"),
    "a manifest with a path that leads out": (
        lambda one: listing(one, **{"../x": {"sha256": "0" * 64, "size": 1}}),
        {},
        "manifest.json lists '../x': it leads out of the folder",
    ),
    "a manifest that lists itself": (
        lambda one: listing(one, **{"manifest.json": {"sha256": "0" * 64, "size": 1}}),
        {},
        "two of its files have one name",
    ),
    "names that differ by case": (
        lambda one: listing(one, SERVE={"sha256": "0" * 64, "size": 1}),
        {},
        "two of its files have one name",
    ),
    "a file as a folder": (
        lambda one: listing(one, **{"serve/x": {"sha256": "0" * 64, "size": 1}}),
        {},
        "two of its files have one name",
    ),
    "a negative size": (
        lambda one: listing(one, x={"sha256": "0" * 64, "size": -1}),
        {},
        "its 'files' is not what it should be",
    ),
    "too large": (lambda one: listing(one, x={"sha256": "0" * 64, "size": tar.LIMIT}), {}, "bytes unpacked"),
    "a later format": (lambda one: [manifest(one, format=2)], {}, "has the format 2; this release reads 1"),
    "another name": (lambda one: [manifest(one, name="../x")], {}, "name= must be"),
    "another target": (lambda one: [manifest(one, target="azure")], {}, "target= must be one of"),
    "no signature": (lambda one: [manifest(one, signature={})], {}, "its 'signature' is not what it should be"),
    "a list": (lambda one: [member("manifest.json", b"[]\n")], {}, "it has no format"),
    "deep JSON": (lambda one: [member("manifest.json", b"[" * 10**6)], {}, "it is not JSON"),
    "a name twice in the manifest": (
        lambda one: [member("manifest.json", text_of(one.manifest).replace(b"{", b'{"name": "x",', 1))],
        {},
        "it was edited",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_before_anything_is_written(shared, tmp_path, name):
    make, options, message = HOSTILE[name]
    path = packed(tmp_path / "hostile.tar.gz", make(shared), **options)
    with pytest.raises(DeployError) as caught:
        read_bundle(path, into=tmp_path / "into")
    assert message in str(caught.value)
    assert [one.name for one in tmp_path.iterdir()] == ["hostile.tar.gz"]


def test_the_same_members_are_read_if_nothing_was_changed(shared, tmp_path):
    path = packed(tmp_path / "copy.tar.gz", members_of(shared))
    assert read_bundle(path, into=tmp_path / "into").digest == shared.digest


def test_a_bomb_is_refused_by_its_header(shared, tmp_path):
    """Ten gigabytes of zeros in a small file: not even read."""
    one = tarfile.TarInfo(MODEL)
    one.size = 10**10
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", 1) as file:
        for header, data in members_of(shared)[:1]:
            file.write(header.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))
        file.write(one.tobuf(tarfile.GNU_FORMAT))
        for _ in range(10):
            file.write(bytes(10**7))
    with pytest.raises(DeployError, match="has 10000000000 bytes, not"):
        read_bundle(path, into=tmp_path / "into")


def test_a_manifest_that_is_a_bomb_is_refused_by_its_header(tmp_path):
    one = tarfile.TarInfo("manifest.json")
    one.size = 10**10
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(one.tobuf(tarfile.GNU_FORMAT) + bytes(10**6)))
    with pytest.raises(DeployError, match=r"does not begin with manifest\.json"):
        read_bundle(path)


def test_what_comes_after_the_end_is_refused(shared, tmp_path):
    path = packed(tmp_path / "more.tar.gz", members_of(shared), tail=b"#!/bin/sh\n")
    with pytest.raises(DeployError, match="goes on after its end"):
        read_bundle(path)
    path = packed(tmp_path / "zeros.tar.gz", members_of(shared), tail=bytes(10**6))
    with pytest.raises(DeployError, match="goes on after its end"):
        read_bundle(path)


def test_a_cut_archive_is_refused(shared, tmp_path):
    whole = shared.archive.read_bytes()
    path = tmp_path / "cut.tar.gz"
    for size in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DeployError):
            read_bundle(path, into=tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_any_changed_byte_is_refused(shared, tmp_path):
    """Of the archive unpacked: a byte in each 512-byte block that holds something."""
    content = gzip.decompress(shared.archive.read_bytes())
    path, accepted = tmp_path / "changed.tar.gz", []
    blocks = [at for at in range(0, len(content), 512) if any(content[at : at + 512])]
    for at in blocks[:: len(blocks) // 40]:
        changed = bytearray(content)
        place = at + next(index for index, one in enumerate(content[at : at + 512]) if one)
        changed[place] ^= 1
        path.write_bytes(gzip.compress(changed, 1))
        try:
            read_bundle(path, into=tmp_path / "into")
            accepted.append(at)
        except DeployError:
            pass
    assert not accepted


def test_other_files_are_no_bundle(tmp_path):
    (tmp_path / "plain.txt").write_text("mine")
    with zip_of(tmp_path / "a.zip"):
        pass
    for name in ("plain.txt", "a.zip"):
        with pytest.raises(DeployError, match=r"is not a complete \.tar\.gz"):
            read_bundle(tmp_path / name)
    with pytest.raises(DeployError, match="there is no bundle"):
        read_bundle(tmp_path / "none")
    with pytest.raises(DeployError, match=r"it has no manifest\.json"):
        read_bundle(tmp_path)
    with pytest.raises(DeployError, match="must be a str or a Path"):
        read_bundle(3)


def zip_of(path):
    import zipfile

    return zipfile.ZipFile(path, "w")


def test_into_must_be_empty(shared, tmp_path):
    (tmp_path / "into").mkdir()
    (tmp_path / "into" / "mine").write_text("")
    (tmp_path / "link").symlink_to("elsewhere")
    for name in ("into", "into/mine", "link"):
        with pytest.raises(DeployError, match="is not an empty folder"):
            read_bundle(shared.archive, into=tmp_path / name)
    with pytest.raises(DeployError, match="into= is for an archive"):
        read_bundle(shared.path, into=tmp_path / "other")


def test_a_full_disk_is_told_before_anything_is_written(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(tar.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(DeployError, match="and 1 are free"):
        read_bundle(shared.archive, into=tmp_path / "into")
    assert not list((tmp_path / "into").iterdir())


def changed(folder):
    (folder / MODEL).write_bytes(b"other")


def same_size(folder):
    content = bytearray((folder / MODEL).read_bytes())
    content[-1] ^= 1
    (folder / MODEL).write_bytes(content)


def removed(folder):
    (folder / MODEL).unlink()


def linked(folder):
    (folder / MODEL).rename(folder.parent / "model.onnx")
    (folder / MODEL).symlink_to(folder.parent / "model.onnx")


def folder_linked(folder):
    (folder / "model").rename(folder.parent / "model")
    (folder / "model").symlink_to(folder.parent / "model")


def piped(folder):
    (folder / MODEL).unlink()
    os.mkfifo(folder / MODEL)


def added_module(folder):
    (folder / "unitrain" / "serving" / "sitecustomize.py").write_text("")


def manifest_linked(folder):
    (folder / "manifest.json").rename(folder.parent / "manifest.json")
    (folder / "manifest.json").symlink_to(folder.parent / "manifest.json")


def other_archive(folder):
    packed(folder / "model.tar.gz", [member("manifest.json", b"[]")])


CHANGES = {
    changed: "model/model.onnx in .* was changed",
    same_size: "model/model.onnx in .* was changed",
    removed: "model/model.onnx is missing",
    linked: "model/model.onnx in .* is a link or a device",
    folder_linked: "model in .* is a link or a device",
    piped: "model/model.onnx in .* is a link or a device",
    added_module: "'unitrain/serving/sitecustomize.py' in .* is not part of the bundle",
    manifest_linked: "is not the manifest of a bundle",
    other_archive: r"manifest\.json was not written by",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
def test_a_changed_folder_is_refused(shared, tmp_path, change):
    folder = copied(shared, tmp_path / "out")
    assert read_bundle(folder).digest == shared.digest
    change(folder)
    with pytest.raises(DeployError, match=CHANGES[change]):
        read_bundle(folder)


def test_the_archive_of_another_bundle_is_refused(onnx, shared, tmp_path):
    import unitrain

    other = unitrain.bundle(onnx, tmp_path / "out", name="other", archive=True)
    shutil.copy(shared.archive, other.archive)
    with pytest.raises(DeployError, match="is of another bundle than its folder"):
        read_bundle(other.path)
