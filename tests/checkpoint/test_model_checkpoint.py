"""Which files are kept: tables of what a person would expect."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
import torch

from unitrain import ConfigError, EarlyStopping, Event, ModelCheckpoint, UnifiedTrainer
from unitrain.checkpoint import io
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

FRAMEWORKS = ["reference", "lightning", "ignite"]
NAN, INF = math.nan, math.inf

SCENARIOS = {
    # scores of the epochs: kept epochs, the best first
    "min": ([3, 1, 2], {"save_top_k": 2}, [1, 2]),
    "max": ([3, 1, 2], {"save_top_k": 2, "mode": "max"}, [0, 2]),
    "ties are kept by age": ([1, 1, 1], {"save_top_k": 2}, [0, 1]),
    "a tie does not push out": ([2, 1, 2], {"save_top_k": 2}, [1, 0]),
    "one": ([3, 2, 1], {"save_top_k": 1}, [2]),
    "none": ([3, 2, 1], {"save_top_k": 0}, []),
    "all": ([1, 3, 2], {"save_top_k": -1}, [0, 2, 1]),
    "nan is worst": ([NAN, 2, NAN, 1], {"save_top_k": 2}, [3, 1]),
    "nan is kept if there is room": ([NAN, NAN], {"save_top_k": 2}, [0, 1]),
    "inf": ([INF, 5, -INF], {"save_top_k": 2}, [2, 1]),
    "every second epoch": ([1, 2, 3, 0], {"save_top_k": 2, "every_n_epochs": 2}, [3, 1]),
    "float32 ties": ([0.1, 0.1 + 1e-9], {"save_top_k": 1}, [0]),
}


def run(framework, folder, scores=None, epochs=3, **options):
    keeper = ModelCheckpoint(folder, "{epoch}", **options)
    trainer = UnifiedTrainer(framework, max_epochs=epochs, seed=0, enable_progress_bar=False, callbacks=[keeper])
    if scores is not None:
        trainer.on(Event.EPOCH_END, lambda run: run.log("score", scores[run.state.epoch]))
    torch.manual_seed(5)
    return trainer.fit(spec(), loader(), loader()), keeper


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_kept_files(name, framework, tmp_path):
    scores, options, kept = SCENARIOS[name]
    result, keeper = run(framework, tmp_path, scores, len(scores), monitor="train/score", **options)
    files = [tmp_path / f"epoch={epoch}.ckpt" for epoch in kept]
    assert [path for path, _ in keeper.best_k_models] == files
    assert set(tmp_path.iterdir()) == set(files)
    assert result.best_checkpoint == (files[0] if files else None)
    assert all(io.read(path)["epoch"] == epoch for path, epoch in zip(files, kept, strict=True))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_without_a_monitor_the_newest_is_the_best(framework, tmp_path):
    result, _ = run(framework, tmp_path)
    assert result.best_checkpoint == result.last_checkpoint == tmp_path / "epoch=2.ckpt"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_save_last_is_kept_beside_the_best(framework, tmp_path):
    result, keeper = run(framework, tmp_path, [1, 2, 3], monitor="train/score", save_last=True)
    assert {path.name for path in tmp_path.iterdir()} == {"epoch=0.ckpt", "last.ckpt"}
    assert result.last_checkpoint == keeper.last_model_path == tmp_path / "last.ckpt"
    assert io.read(tmp_path / "last.ckpt")["epoch"] == 2


NOT_DUE = {
    "epochs": {"every_n_epochs": 2},
    "steps": {"every_n_train_steps": 1000},
    "time": {"train_time_interval": timedelta(days=1)},
    "a monitor": {"every_n_epochs": 2, "monitor": "val/loss"},
    "no ranked files": {"every_n_epochs": 2, "save_top_k": 0},
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", NOT_DUE)
def test_a_fit_that_ends_before_a_file_is_due_writes_last(name, framework, tmp_path):
    result, keeper = run(framework, tmp_path / "kept", epochs=1, save_last=True, **NOT_DUE[name])
    last = tmp_path / "kept" / "last.ckpt"
    assert result.last_checkpoint == keeper.last_model_path == last
    assert list(last.parent.iterdir()) == [last]
    assert result.best_checkpoint is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_last_that_is_not_written_at_the_end_is_noticed(framework, tmp_path, monkeypatch):
    monkeypatch.setattr(ModelCheckpoint, "on_fit_end", lambda self, run: None)
    with pytest.raises(UserWarning, match="wrote no file"):
        test_a_fit_that_ends_before_a_file_is_due_writes_last("epochs", framework, tmp_path)


@pytest.mark.filterwarnings("ignore:ModelCheckpoint writes into")
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("limit", [{"max_epochs": 1}, {"max_epochs": 9, "max_steps": 2}])
def test_who_continues_from_a_last_that_was_not_due_ends_in_the_same(limit, framework, tmp_path):
    def fit(folder, ckpt_path=None, **options):
        torch.manual_seed(5)
        keep = ModelCheckpoint(tmp_path / folder, every_n_epochs=7, save_last=True)
        trainer = UnifiedTrainer(framework, seed=0, enable_progress_bar=False, callbacks=[keep], **options)
        return trainer.fit(spec(), loader(), loader(), ckpt_path=ckpt_path).last_checkpoint

    first = fit("first", **limit)
    both = fit("rest", first, max_epochs=3), fit("whole", max_epochs=3)
    assert not differences(*(io.read(one)["state_dict"] for one in both))
    assert not differences(*(io.read(one)["optimizer_states"] for one in both))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_last_that_was_due_is_not_written_again_at_the_end(framework, tmp_path):
    run(framework, tmp_path, epochs=3, every_n_epochs=2, save_last=True)
    assert io.read(tmp_path / "last.ckpt")["epoch"] == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_n_train_steps(framework, tmp_path):
    keeper = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=5, save_top_k=-1)
    trainer = UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False, callbacks=[keeper])
    trainer.fit(spec(), loader())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step=10.ckpt", "step=5.ckpt"]


def test_by_the_clock(tmp_path):
    keeper = ModelCheckpoint(tmp_path, "{step}", train_time_interval=timedelta(microseconds=1), save_top_k=-1)
    UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False, callbacks=[keeper]).fit(spec(), loader())
    assert len(list(tmp_path.iterdir())) == 6


def test_the_template_takes_metrics(tmp_path):
    keeper = ModelCheckpoint(tmp_path, "{epoch:02d}-{val/acc:.3f}")
    trainer = UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False, callbacks=[keeper])
    result = trainer.fit(spec(), loader(), loader())
    assert result.best_checkpoint.name == f"epoch=00-val_acc={result.metrics['val/acc']:.3f}.ckpt"


def test_a_template_with_an_unknown_value_is_refused(tmp_path):
    keeper = ModelCheckpoint(tmp_path, "{val/accuracy}")
    with pytest.raises(ConfigError, match="val/accuracy"):
        UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False, callbacks=[keeper]).fit(spec(), loader())


@pytest.mark.parametrize(
    "options",
    [{"mode": "up"}, {"save_top_k": -2}, {"every_n_epochs": 0}, {"every_n_epochs": 1, "every_n_train_steps": 2}],
)
def test_what_cannot_be_meant_is_refused(options):
    with pytest.raises(ConfigError, match="Hint: "):
        ModelCheckpoint(**options)


def test_a_monitor_that_no_one_logs_is_refused_before_training(tmp_path):
    keeper = ModelCheckpoint(tmp_path, monitor="val/f1")
    trainer = UnifiedTrainer("ignite", enable_progress_bar=False, callbacks=[keeper])
    with pytest.raises(ConfigError, match="val/f1"):
        trainer.fit(spec(), loader(), loader())
    assert trainer.state.batch == 0


@pytest.mark.parametrize("reader", FRAMEWORKS)
@pytest.mark.parametrize("writer", FRAMEWORKS)
def test_going_on_with_last_keeps_what_an_uninterrupted_run_keeps(writer, reader, tmp_path):
    options = {"monitor": "val/loss", "save_top_k": 2, "save_last": True}
    whole, kept = run(writer, tmp_path / "whole", epochs=4, **options)
    _, half = run(writer, tmp_path / "half", epochs=2, **options)
    keeper = ModelCheckpoint(tmp_path / "half", "{epoch}", **options)
    trainer = UnifiedTrainer(reader, max_epochs=4, seed=0, enable_progress_bar=False, callbacks=[keeper])
    result = trainer.fit(spec(), loader(), loader(), ckpt_path=tmp_path / "half" / "last.ckpt")
    assert [path.name for path, _ in keeper.best_k_models] == [path.name for path, _ in kept.best_k_models]
    assert sorted(path.name for path in (tmp_path / "half").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )
    assert result.history == whole.history
    for path, _ in kept.best_k_models:
        one, other = io.read(path), io.read(tmp_path / "half" / path.name)
        assert not differences(one["state_dict"], other["state_dict"])
    assert half.best_k_models


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("keeper", "why"),
    [
        (lambda folder: ModelCheckpoint(folder, every_n_train_steps=100), "longer than the run of 6 batches"),
        (lambda folder: ModelCheckpoint(folder, every_n_epochs=2), "wrote no file"),
        (
            lambda folder: ModelCheckpoint(folder, monitor="val/mine", every_n_train_steps=100),
            r"monitor='val/mine'.*never measured.*Available: train/acc",
        ),
        (lambda _: EarlyStopping("train/mine", strict=False), r"EarlyStopping.*'train/mine' was never measured"),
    ],
)
def test_what_had_nothing_to_act_on_is_told_at_the_end(keeper, why, framework, tmp_path):
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False, callbacks=[keeper(tmp_path)])
    trainer.on(Event.BATCH_END, lambda run: None)  # it might log anything
    with pytest.warns(UserWarning, match=why):
        trainer.fit(spec(), loader(), loader())
