"""What a fit returns: metrics, history, counters, the reason of its end, and a picture."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import SGD

from unitrain import Event, FitResult, UnitrainError

PNG = b"\x89PNG\r\n\x1a\n"


def test_history_has_one_row_an_epoch_and_metrics_the_last_values(make_trainer, make_spec, make_batches):
    result = make_trainer(max_epochs=3, check_val_every_n_epoch=2).fit(make_spec(), make_batches(4), make_batches(2))
    assert [(row["epoch"], row["step"]) for row in result.history] == [(0, 4), (1, 8), (2, 12)]
    assert ["val/loss" in row for row in result.history] == [False, True, False]
    assert result.metrics == {"train/loss": result.history[2]["train/loss"], "val/loss": result.history[1]["val/loss"]}
    assert (result.epoch, result.step, result.framework, result.native) == (2, 12, "reference", None)
    assert all(type(value) is float for value in result.metrics.values())


def test_history_is_of_this_run_only(make_trainer, make_spec, make_batches):
    trainer = make_trainer()
    first = trainer.fit(make_spec(), make_batches())
    second = trainer.fit(make_spec(), make_batches())
    assert first.history == second.history
    assert len(first.history) == 2


def test_values_logged_at_the_end_of_an_epoch_are_in_its_row(make_trainer, make_spec, make_batches):
    trainer = make_trainer()
    trainer.on(Event.EPOCH_END, lambda run: run.log("number", run.state.epoch))
    assert [row["train/number"] for row in trainer.fit(make_spec(), make_batches()).history] == [0.0, 1.0]


def stop_at(event):
    return lambda trainer: trainer.on(event, lambda run: run.stop())


STOPS = {
    "max_epochs": ({"max_epochs": 3}, None, "max_epochs", 2, 9),
    "max_steps in an epoch": ({"max_epochs": 3, "max_steps": 4}, None, "max_steps", 1, 4),
    "max_steps at an epoch's end": ({"max_epochs": 3, "max_steps": 6}, None, "max_steps", 1, 6),
    "max_steps out of reach": ({"max_epochs": 2, "max_steps": 99}, None, "max_epochs", 1, 6),
    "max_time": ({"max_epochs": 3, "max_time": {"microseconds": 1}}, None, "max_time", 0, 1),
    "max_time out of reach": ({"max_epochs": 2, "max_time": {"hours": 1}}, None, "max_epochs", 1, 6),
    "user in an epoch": ({"max_epochs": 3}, stop_at(Event.BATCH_END(once=5)), "user", 1, 5),
    "user at an epoch's end": ({"max_epochs": 3}, stop_at(Event.EPOCH_END), "user", 0, 3),
    "user, but min_epochs": ({"max_epochs": 4, "min_epochs": 2}, stop_at(Event.BATCH_END(once=1)), "user", 1, 6),
    "user, but min_steps": ({"max_epochs": 4, "min_steps": 4}, stop_at(Event.BATCH_END(once=1)), "user", 1, 4),
    "user before max_steps": (
        {"max_epochs": 4, "max_steps": 5, "min_epochs": 3},
        stop_at(Event.EPOCH_END),
        "max_steps",
        1,
        5,
    ),
    "user, never granted": ({"max_epochs": 2, "min_steps": 99}, stop_at(Event.EPOCH_END), "max_epochs", 1, 6),
}


@pytest.mark.parametrize(("options", "prepare", "reason", "epoch", "step"), STOPS.values(), ids=STOPS)
def test_end_has_its_reason(make_trainer, make_spec, make_batches, options, prepare, reason, epoch, step):
    trainer = make_trainer(**options)
    if prepare:
        prepare(trainer)
    result = trainer.fit(make_spec(), make_batches(3))
    assert (result.stopped_by, result.epoch, result.step) == (reason, epoch, step)
    assert len(result.history) == epoch + 1


def test_stop_lets_the_epoch_end_with_validation_and_its_handlers(make_trainer, make_spec, make_batches):
    trainer, seen = make_trainer(max_epochs=5), []
    trainer.on(Event.BATCH_END(once=2), lambda run: run.stop())
    for event in (Event.VAL_START, Event.VAL_END, Event.EPOCH_END, Event.FIT_END):
        trainer.on(event, partial(seen.append, str(event)))
    result = trainer.fit(make_spec(), make_batches(4), make_batches(1))
    assert seen == ["val_start", "val_end", "epoch_end", "fit_end"]
    assert (result.step, "val/loss" in result.metrics) == (2, True)


def test_steps_are_optimizer_steps_and_batches_are_batches(make_trainer, make_spec, make_batches):
    trainer = make_trainer(accumulate_grad_batches=2)
    assert trainer.fit(make_spec(), make_batches(5)).step == 6  # 2 + 2 + 1 batches, twice
    assert trainer.state.batch == 10


def test_step_counts_once_when_two_optimizers_step(make_trainer, make_spec, make_batches):
    model = nn.ModuleDict({"gen": nn.Linear(4, 4), "disc": nn.Linear(4, 1)})

    def step(run, batch):
        run.backward(run.model["disc"](run.model["gen"](batch[0])).mean())
        run.step("gen")
        run.step("disc")

    optimizer = {name: partial(SGD, lr=0.1) for name in ("gen", "disc")}
    spec = make_spec(model=model, loss=None, optimizer=optimizer, training_step=step, automatic_optimization=False)
    assert make_trainer().fit(spec, make_batches(3)).step == 6


def test_plot_writes_a_picture(make_trainer, make_spec, make_batches, tmp_path):
    result = make_trainer(check_val_every_n_epoch=2).fit(
        make_spec(metrics={"mae": "mae"}), make_batches(), make_batches()
    )
    result.plot(tmp_path / "curves.png")
    written = (tmp_path / "curves.png").read_bytes()
    assert written.startswith(PNG)
    assert len(written) > 5000
    result.plot(str(tmp_path / "curves.svg"))
    drawn = (tmp_path / "curves.svg").read_text()
    assert drawn.startswith("<?xml")


def test_plot_of_a_run_without_an_epoch_writes_a_picture_too(tmp_path):
    empty = FitResult(metrics={}, history=[], epoch=0, step=0, stopped_by="user", framework="reference", native=None)
    empty.plot(tmp_path / "empty.png")
    assert (tmp_path / "empty.png").read_bytes().startswith(PNG)


def test_plot_without_matplotlib_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    empty = FitResult(metrics={}, history=[], epoch=0, step=0, stopped_by="user", framework="reference", native=None)
    with pytest.raises(UnitrainError, match=r"needs matplotlib[\s\S]*pytorch-unitrain\[plot\]"):
        empty.plot(tmp_path / "x.png")


def test_trainer_shows_what_ran(make_trainer, make_spec, make_batches):
    trainer, spec = make_trainer(), make_spec()
    assert (trainer.model, dict(trainer.optimizers), trainer.framework) == (None, {}, "reference")
    trainer.fit(spec, make_batches())
    assert trainer.model is spec.model
    assert isinstance(trainer.optimizers["optimizer"], SGD)
    assert (trainer.state.epoch, trainer.state.step, trainer.state.batch) == (1, 6, 6)
    assert isinstance(trainer.state.loss, torch.Tensor)
    assert not trainer.state.loss.requires_grad


@pytest.mark.parametrize("method", ["stop", "log"])
def test_acting_on_no_run_is_refused(make_trainer, method):
    with pytest.raises(UnitrainError, match=rf"trainer.{method}\(\) needs a running fit[\s\S]*Hint:"):
        getattr(make_trainer(), method)(*([] if method == "stop" else ["x", 1.0]))


def test_explain_has_a_row_for_each_option_on_the_reference_too(make_trainer, make_spec, capsys):
    trainer = make_trainer()
    rows = trainer.explain(make_spec(), all=True)
    assert {row.what for row in rows} >= {*trainer.config.__dataclass_fields__, "model", "loss", "optimizer"}
    assert capsys.readouterr().out.startswith("what")
