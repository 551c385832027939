"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import math
import sys
import time

import pytest

from unitrain import BackendNotInstalledError, TensorBoardLogger
from unitrain.testing import cases

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard", "ignore::DeprecationWarning:google")


class Rows:
    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_reader_finds_what_was_logged(framework, fit, tmp_path):
    logger, rows = TensorBoardLogger(tmp_path), Rows()
    fit(framework, logger, rows, spec=lambda: cases.spec(hparams={"lr": 0.1, "net": {"width": 8}, "kind": None}))
    found = read(logger.folder)
    assert set(found.Tags()["scalars"]) == {name for _, row in rows.rows for name in row}
    for tag in found.Tags()["scalars"]:
        expected = [(step, row[tag]) for step, row in rows.rows if tag in row]
        got = [(event.step, event.value) for event in found.Scalars(tag)]
        assert len(got) == len(expected)
        # event files hold float32
        assert all(a[0] == b[0] and math.isclose(a[1], b[1], rel_tol=1e-7) for a, b in zip(got, expected, strict=True))
    text = b"".join(path.read_bytes() for path in logger.folder.glob("events.*"))
    assert all(name in text for name in (b"lr", b"net/width", b"kind"))


def test_new_run_has_a_folder_of_its_own(framework, fit, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    fit(framework, logger)
    fit(framework, logger)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run-2"]


def test_resumed_run_goes_on_in_its_folder(tmp_path):
    for rows in (0, 2):
        logger = TensorBoardLogger(tmp_path)
        logger.begin(rows)
        logger.log_hyperparams({"lr": 0.1})
        for step in (rows, rows + 1, rows + 2):
            logger.log_metrics({"m": float(rows)}, step)
        logger.finalize("success")
        time.sleep(1.1)  # the reader sorts files by the second in their names
    found = [(event.step, event.value) for event in read(tmp_path / "run").Scalars("m")]
    assert found == [(0, 0), (1, 0), (2, 2), (3, 2), (4, 2)]


def test_evaluation_after_a_resumed_run_hides_none_of_its_rows(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.begin(2)
    for step in (2, 3):
        logger.log_metrics({"m": float(step)}, step)
    logger.finalize("success")
    time.sleep(1.1)
    logger.log_metrics({"test/loss": 0.5}, 3)
    logger.finalize("success")
    found = read(logger.folder)
    assert [event.step for event in found.Scalars("m")] == [2, 3]
    assert [event.step for event in found.Scalars("test/loss")] == [3]


def test_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BackendNotInstalledError, match=r"pip install 'pytorch-unitrain\[tensorboard\]'"):
        TensorBoardLogger(tmp_path)
