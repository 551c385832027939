"""Weights & Biases without a network."""

from __future__ import annotations

import struct
import sys

import pytest

from unitrain import BackendNotInstalledError, WandbLogger
from unitrain.testing import cases

# W&B starts a service process of its own; on a loaded machine one of four runs did not read back its file in time.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::UserWarning"),
]


BLOCK, HEADER = 32768, 7


def chunks(data):
    """Yield the records of LevelDB's log format, which W&B writes after a header of its own."""
    position, whole = HEADER, b""
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:
            position += BLOCK - position % BLOCK
        length, kind = struct.unpack_from("<HB", data, position + 4)
        whole += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # full, or the last part
            yield whole
            whole = b""


def records(folder):
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    for chunk in chunks(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(chunk)
        yield record


def test_offline_run_holds_what_was_logged(framework, fit, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    trainer = fit(
        framework, WandbLogger("p", mode="offline", save_dir=tmp_path), spec=lambda: cases.spec(hparams={"lr": 0.1})
    )
    found = list(records(tmp_path))
    rows = [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in found
        if record.HasField("history")
    ]
    assert [int(row["_step"]) for row in rows] == [2, 4, 6, 8, 10, 12]
    assert {name: float(rows[-1][name]) for name in trainer.state.metrics} == trainer.state.metrics
    config = {
        update.key: update.value_json
        for record in found
        for update in (*record.run.config.update, *record.config.update)
    }
    assert config["lr"] == "0.1"
    assert [record.exit.exit_code for record in found if record.HasField("exit")] == [0]


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(BackendNotInstalledError, match=r"pip install 'pytorch-unitrain\[wandb\]'"):
        WandbLogger()
