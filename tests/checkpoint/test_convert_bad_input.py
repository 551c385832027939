"""What cannot be converted is refused with its place and a fix, and nothing half-written is left."""

from __future__ import annotations

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from unitrain import CheckpointError, ConfigError, convert_checkpoint
from unitrain.checkpoint import io
from unitrain.checkpoint.convert.codecs import form_of

GOLDEN = Path(__file__).parent / "golden"
TARGETS = ["portable", "lightning", "ignite", "safetensors"]


class Payload:
    """What an attacker would put into a file: reading it runs a command."""

    def __reduce__(self):
        return os.system, ("touch ran",)


class Own:
    """A class of somebody's program."""


def lightning(**more):
    state = {"state_dict": {"net.weight": torch.ones(2)}, "pytorch-lightning_version": "2.4.0"}
    return {**state, "epoch": 0, "global_step": 0, **more}


def with_code(path):
    torch.save(lightning(hyper_parameters={"a": Payload()}), path)


def with_own_class(path):
    torch.save({"model": nn.Linear(2, 2).state_dict(), "config": Own()}, path)


def whole_model(path):
    torch.save(nn.Linear(2, 2), path)


def plain_pickle(path):
    path.write_bytes(pickle.dumps({"model": {"a": 1}}))


def truncated(path):
    path.write_bytes((GOLDEN / "lightning-2.5.6.ckpt").read_bytes()[:-900])


def flipped(path):
    content = bytearray((GOLDEN / "lightning-2.5.6.ckpt").read_bytes())
    content[3000] ^= 255
    path.write_bytes(bytes(content))


def nonsense(path):
    path.write_text("not a checkpoint")


def empty(path):
    path.write_bytes(b"")


def archive(path):
    import zipfile

    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.txt", "b")


def old_and_cut_off(path):
    torch.save({"a": torch.ones(200)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-400])


def a_list(path):
    torch.save([torch.ones(1)], path)


def numbers(path):
    torch.save({"epoch": 3, "loss": 0.1}, path)


def no_content(path):
    torch.save({}, path)


def mangled(path):
    torch.save(lightning(loops={"fit_loop": {"epoch_progress": {}}}), path)


BAD = {
    with_code: r"references code, and unitrain runs no code from a file: posix\.system",
    with_own_class: r"references code.*: .*\.Own\nHint: in a program that trusts it",
    whole_model: "references code.*Linear",
    plain_pickle: "is a pickle not written by torch",
    truncated: "is damaged",
    flipped: "is damaged",
    nonsense: "is damaged: it is neither a torch archive",
    empty: "is damaged",
    archive: "is damaged: its table of contents is not torch's",
    old_and_cut_off: "is damaged|names code",
    a_list: "contains a list, not a checkpoint",
    numbers: "unrecognised checkpoint format; top-level keys: 'epoch', 'loss'",
    no_content: "unrecognised checkpoint format; top-level keys: nothing",
    mangled: "looks like a 'lightning' file, but is malformed: KeyError",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_files_are_refused(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, target = tmp_path / "bad.ckpt", tmp_path / "out"
    make(source)
    before = source.read_bytes()
    target.write_text("old")
    for to in TARGETS:
        with pytest.raises(CheckpointError, match=BAD[make]) as caught:
            convert_checkpoint(source, target, to=to, part="")
        assert str(source) in str(caught.value)
        assert "\nHint: " in str(caught.value)
    assert source.read_bytes() == before
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.ckpt", "out"], "nothing ran, nothing is left"


def test_bad_arguments_are_refused(tmp_path):
    good, target = GOLDEN / "lightning-2.5.6.ckpt", tmp_path / "out"
    cases = (
        ((good, target, "igntie"), {}, "did you mean 'ignite'"),
        ((good, good, "ignite"), {}, "over its own source"),
        ((good, tmp_path, "ignite"), {}, "is a folder"),
        (
            (good, target, "ignite"),
            {"template": nn.Linear},
            "must be a TrainSpec or a module, .*\nHint: create an instance",
        ),
        ((good, target, "ignite"), {"template": {"0.weight": 1}}, "must be a TrainSpec or a module"),
        ((good, target, "lightning"), {"part": "net"}, "already is Lightning's"),
    )
    for given, more, message in cases:
        with pytest.raises(ConfigError, match=message):
            convert_checkpoint(*given, **more)
    link = tmp_path / "link.ckpt"
    link.symlink_to(good)
    with pytest.raises(ConfigError, match="over its own source"):
        convert_checkpoint(link, good, "ignite")
    assert not target.exists()


def test_a_folder_that_is_none_of_ours(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=r"is not a checkpoint, or is incomplete"):
        convert_checkpoint(tmp_path / "folder", tmp_path / "out", "portable")


def test_no_file(tmp_path):
    for name in ("none.ckpt", "none.safetensors"):
        with pytest.raises(CheckpointError, match="does not exist"):
            convert_checkpoint(tmp_path / name, tmp_path / "out", "portable")


def test_a_run_whose_stand_is_not_known_is_not_gone_on_with(tmp_path):
    model = nn.Linear(2, 2)
    states = {"model": model.state_dict(), "optimizer": torch.optim.Adam(model.parameters()).state_dict()}
    torch.save({**states, "epoch": 3}, tmp_path / "a.pt")
    for to in ("portable", "ignite", "lightning"):
        with pytest.raises(CheckpointError, match="contains no trainer state"):
            convert_checkpoint(tmp_path / "a.pt", tmp_path / "out", to=to)
    left = convert_checkpoint(tmp_path / "a.pt", tmp_path / "w.safetensors", to="safetensors")
    assert left == ["everything but the weights"]


@pytest.mark.parametrize("allowed", [False, True])
def test_harmless_containers_are_let_in_and_told(allowed, tmp_path):
    """Also where another library has allowed torch to read one of them as it is, as tensordict does."""
    from collections import defaultdict
    from datetime import timedelta

    before = torch.serialization.get_safe_globals()
    if allowed:
        torch.serialization.add_safe_globals([defaultdict, timedelta])
    allowed_then = set(torch.serialization.get_safe_globals())
    counted = defaultdict(list)
    counted["a"].append(1)
    hparams = {"args": argparse.Namespace(lr=0.1, to=Path("x")), "counted": counted, "time": timedelta(seconds=5)}
    torch.save(lightning(hyper_parameters=hparams), tmp_path / "a.ckpt")
    left = convert_checkpoint(tmp_path / "a.ckpt", tmp_path / "b.ckpt", to="lightning", part="")
    found = io.read(tmp_path / "b.ckpt")["hyper_parameters"]
    assert found == {"args": {"lr": 0.1, "to": "x"}, "counted": {"a": [1]}, "time": "0:00:05"}
    for place in ("args", "args.to", "time"):
        assert any(line.startswith(f"hyper_parameters.{place}: its type") for line in left)
    assert set(torch.serialization.get_safe_globals()) == allowed_then
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def test_a_name_of_code_in_the_hyper_parameters_is_left_out(tmp_path):
    """CVE-2026-58659: an older Lightning imports what ``_instantiator`` names."""
    torch.save(lightning(hyper_parameters={"_instantiator": "os.system", "lr": 0.1}), tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="CVE-2026-58659"):
        io.read(tmp_path / "a.ckpt")
    left = convert_checkpoint(tmp_path / "a.ckpt", tmp_path / "b.ckpt", to="lightning")
    assert any("_instantiator" in line for line in left)
    assert io.read(tmp_path / "b.ckpt")["hyper_parameters"] == {"lr": 0.1}


def test_a_scaler_or_a_schedule_is_no_model(tmp_path):
    scaler = torch.amp.GradScaler("cpu").state_dict()
    with pytest.raises(CheckpointError, match="unrecognised checkpoint format"):
        form_of(tmp_path, {"scaler": scaler})
