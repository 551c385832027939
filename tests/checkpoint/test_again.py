"""A script that is started again: "last" and "best" of the run before, a run that has ended, files with their value."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import (
    CheckpointError,
    ConfigError,
    EarlyStopping,
    Event,
    LRSchedule,
    ModelCheckpoint,
    TrainSpec,
    UnifiedTrainer,
    load_weights,
    metric,
)
from unitrain.callbacks import model_checkpoint
from unitrain.checkpoint import io
from unitrain.testing.trace import differences

BACKENDS = ("lightning", "ignite", "reference")
each_backend = pytest.mark.parametrize("framework", BACKENDS)


def data(samples=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(samples, 4, generator=generator), torch.randint(0, 3, (samples,), generator=generator)
    return TensorDataset(*rows)


def spec(**changes):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    fields = {"loss": nn.CrossEntropyLoss(), "optimizer": partial(torch.optim.SGD, lr=0.5)}
    return TrainSpec(model=model, **{**fields, **changes})


def fit(framework, *callbacks, what=None, val=True, ckpt_path=None, on=(), **options):
    trainer = UnifiedTrainer(
        framework, seed=0, enable_progress_bar=False, callbacks=callbacks, **{"max_epochs": 2, **options}
    )
    for event, handler in on:
        trainer.on(event, handler)
    loaders = DataLoader(data(), 2, shuffle=True), DataLoader(data(10, seed=5), 5) if val else None
    return trainer.fit(what or spec(), *loaders, ckpt_path=ckpt_path)


def loss_of(path):
    """Return the validation loss of the weights in a file, as the mean of two batches of five, in float32."""
    model = spec().model
    model.load_state_dict(load_weights(path))
    inputs, targets = data(10, seed=5).tensors
    with torch.no_grad():
        parts = [nn.CrossEntropyLoss()(model(x), y) for x, y in zip(inputs.split(5), targets.split(5), strict=True)]
    return ((parts[0] * 5 + parts[1] * 5) / 10).item()


EACH_N_STEPS = {
    "with each validation": (4, 4, 4),
    "between validations": (3, 5, 4),
    "at another pace": (5, 3, 3),
    "once an epoch": (4, 1.0, 2),
}


@each_backend
@pytest.mark.parametrize("name", EACH_N_STEPS)
def test_a_ranked_file_holds_the_weights_of_its_value(framework, name, tmp_path):
    steps, interval, files = EACH_N_STEPS[name]
    keep = ModelCheckpoint(
        tmp_path, "{step}-{val/loss:.6f}", monitor="val/loss", save_top_k=-1, every_n_train_steps=steps
    )
    fit(framework, keep, val_check_interval=interval)
    assert len(keep.best_k_models) == files
    for path, value in keep.best_k_models:
        assert value == loss_of(path)
        assert path.name.endswith(f"val_loss={value:.6f}.ckpt")


@each_backend
def test_an_epochs_file_waits_for_the_validation_that_comes_later(framework, tmp_path):
    """Validation after 3 of 10 batches: at the epoch's end the value is of older weights."""
    keep = ModelCheckpoint(tmp_path, monitor="val/loss", save_top_k=-1)
    fit(framework, keep, max_epochs=3, val_check_interval=6)
    assert sorted(path.name for path, _ in keep.best_k_models) == ["epoch=1-step=16.ckpt", "epoch=2-step=26.ckpt"]
    assert all(value == loss_of(path) for path, value in keep.best_k_models)


def test_without_the_wait_a_file_has_the_value_of_other_weights(monkeypatch, tmp_path):
    class Forgetful(dict):
        def get(self, name):
            return self.run.state.step

    def stale(self, run):
        Forgetful.run = run
        run.hub.measured_at = Forgetful(run.hub.measured_at)
        if "val/loss" in run.state.metrics:
            original(self, run)

    original = ModelCheckpoint._rank_if_measured
    monkeypatch.setattr(model_checkpoint.ModelCheckpoint, "_rank_if_measured", stale)
    keep = ModelCheckpoint(tmp_path, monitor="val/loss", save_top_k=-1, every_n_train_steps=4)
    fit("ignite", keep, val_check_interval=4)
    assert any(value != loss_of(path) for path, value in keep.best_k_models)


@pytest.mark.parametrize(
    ("writer", "reader"), [("ignite", "lightning"), ("lightning", "reference"), ("reference", "ignite")]
)
def test_what_waits_when_a_run_is_cut_is_written_by_the_run_that_resumes_it(writer, reader, tmp_path):
    def keep(folder):
        return ModelCheckpoint(tmp_path / folder, monitor="val/loss", save_top_k=-1, every_n_train_steps=4)

    whole, rest = keep("whole"), keep("rest")
    at = tmp_path / "at.ckpt"
    save = (Event.BATCH_END(once=5), lambda run: run.save_checkpoint(at))
    fit(writer, whole, val_check_interval=6, on=[save])
    fit(reader, rest, val_check_interval=6, ckpt_path=at)
    assert len(rest.best_k_models) == 2
    assert [(path.name, value) for path, value in rest.best_k_models] == [
        (path.name, value) for path, value in whole.best_k_models
    ]


NOTHING = {
    "steps": ({"every_n_train_steps": 50}, "its interval is longer than the run of 20 batches and 20 steps"),
    "epochs": ({"every_n_epochs": 3}, "its interval is longer than the run of 20 batches and 20 steps"),
    "a value that comes too early": (
        {"monitor": "val/loss", "every_n_train_steps": 20},
        r"monitor='val/loss'\) wrote no file: 'val/loss' was not measured again .* train/loss, val/loss",
    ),
}


@each_backend
@pytest.mark.parametrize("name", NOTHING)
def test_a_run_that_wrote_no_file_says_why(framework, name, tmp_path):
    options, says = NOTHING[name]
    with pytest.warns(UserWarning, match=says):
        fit(framework, ModelCheckpoint(tmp_path, **options), val_check_interval=8)
    assert not list(tmp_path.glob("*.ckpt"))


WATCHERS = {
    "ModelCheckpoint": lambda: {"callbacks": [ModelCheckpoint(monitor="val/loss")]},
    "ModelCheckpoint by steps": lambda: {"callbacks": [ModelCheckpoint(monitor="val/loss", every_n_train_steps=2)]},
    "EarlyStopping": lambda: {"callbacks": [EarlyStopping("val/loss")]},
    "ReduceLROnPlateau": lambda: {
        "lr_scheduler": LRSchedule(torch.optim.lr_scheduler.ReduceLROnPlateau, monitor="val/loss")
    },
}


@each_backend
@pytest.mark.parametrize("name", WATCHERS)
def test_a_validation_monitor_without_validation_data_is_refused_with_the_way_out(framework, name):
    with pytest.raises(ConfigError, match=r"(?s)monitor='val/loss'.*no validation data.*Hint: fit\(spec, train, val\)"):
        fit(framework, what=spec(**WATCHERS[name]()), val=False)


@each_backend
@pytest.mark.parametrize("folder", [None, "own"])
@pytest.mark.parametrize("role", ["last", "best"])
def test_a_script_that_is_started_again_finds_the_files_of_its_run(framework, folder, role, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def keep():
        return ModelCheckpoint(folder, monitor="val/acc", mode="max", save_last=True)

    def make():
        return spec(metrics={"acc": metric("accuracy", num_classes=3)})

    first = fit(framework, keep(), what=make())
    whole = fit(framework, ModelCheckpoint("whole"), what=make(), max_epochs=4)
    again = fit(framework, keep(), what=make(), max_epochs=4, ckpt_path=role)
    assert again.metrics == whole.metrics
    assert again.history == whole.history
    assert first.best_checkpoint.parent == again.best_checkpoint.parent


@each_backend
@pytest.mark.parametrize("role", ["last", "best"])
def test_where_there_is_no_earlier_run_the_error_names_the_folder(framework, role, tmp_path):
    with pytest.raises(ConfigError, match=rf"ckpt_path='{role}'.*It looked in {tmp_path}/none"):
        fit(framework, ModelCheckpoint(tmp_path / "none"), ckpt_path=role)


@pytest.mark.parametrize("writer", BACKENDS)
@each_backend
def test_a_run_that_has_ended_gives_its_result_again(framework, writer, tmp_path):
    wrote = fit(writer, ModelCheckpoint(tmp_path, monitor="val/loss", save_last=True))
    what, steps = spec(), []
    again = fit(
        framework,
        ModelCheckpoint(tmp_path, monitor="val/loss", save_last=True),
        what=what,
        ckpt_path=tmp_path / "last.ckpt",
        on=[(Event.BATCH_START, steps.append)],
    )
    assert not steps
    for name in ("metrics", "history", "epoch", "step", "stopped_by", "best_checkpoint", "last_checkpoint"):
        assert getattr(again, name) == getattr(wrote, name), name
    weights = load_weights(tmp_path / "last.ckpt")
    assert all(torch.equal(weights[name], value) for name, value in what.model.state_dict().items())
    longer = fit(framework, ModelCheckpoint(tmp_path), ckpt_path=tmp_path / "last.ckpt", max_epochs=3)
    assert (longer.epoch, longer.step) == (2, 30)


@each_backend
def test_last_is_the_newest_file_where_a_ranked_one_waits_for_the_validation_of_its_step(framework, tmp_path):
    keep = partial(ModelCheckpoint, tmp_path, monitor="val/loss", every_n_train_steps=10, save_last=True)
    wrote, saved = fit(framework, first := keep(), max_epochs=1), tmp_path / "last.ckpt"
    assert wrote.last_checkpoint == first.last_model_path == saved
    files = sorted(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    assert files == [wrote.best_checkpoint, saved]
    assert fit(framework, keep(), max_epochs=1, ckpt_path=saved).last_checkpoint == saved


@each_backend
def test_a_run_that_has_ended_can_be_saved_again(framework, tmp_path):
    fit(framework, what=spec(), on=[(Event.FIT_END, lambda run: run.save_checkpoint(tmp_path / "a.ckpt"))])
    trainer = UnifiedTrainer(framework, seed=0, enable_progress_bar=False, max_epochs=2)
    trainer.fit(spec(), DataLoader(data(), 2), DataLoader(data(10), 5), ckpt_path=tmp_path / "a.ckpt")
    trainer.save_checkpoint(tmp_path / "b.ckpt")
    first, second = (io.read(tmp_path / name) for name in ("a.ckpt", "b.ckpt"))
    assert not differences(first["state_dict"], second["state_dict"])
    assert not differences(first["unitrain"]["progress"], second["unitrain"]["progress"])
    assert fit(framework, ckpt_path=tmp_path / "b.ckpt", max_epochs=3).step == 30


@each_backend
def test_a_run_that_has_made_its_steps_makes_no_more(framework, tmp_path):
    keep = partial(ModelCheckpoint, tmp_path, every_n_train_steps=5, save_last=True)
    fit(framework, keep(), max_epochs=None, max_steps=15)
    again = fit(framework, keep(), max_epochs=None, max_steps=15, ckpt_path="last")
    assert (again.step, again.stopped_by) == (15, "max_steps")


def stops_early(patience=2, **arguments):
    """Stop after three epochs: no value is below the first by 100."""
    return EarlyStopping("val/loss", patience=patience, min_delta=100.0, **arguments)


@each_backend
@pytest.mark.parametrize("writer", BACKENDS)
def test_a_run_that_was_stopped_early_gives_its_result_again(framework, writer, tmp_path):
    wrote = fit(writer, ModelCheckpoint(tmp_path, save_last=True), stops_early(), max_epochs=9)
    assert (wrote.stopped_by, wrote.epoch, wrote.step) == ("early_stopping", 2, 30)
    what, steps = spec(), []
    for epochs in (9, 12):  # more epochs are no reason to train on
        again = fit(
            framework,
            *(ModelCheckpoint(tmp_path, save_last=True), stops_early(strict=False)),
            what=what,
            ckpt_path="last",
            on=[(Event.BATCH_START, steps.append)],
            max_epochs=epochs,
        )
        assert not steps
        for name in ("metrics", "history", "epoch", "step", "stopped_by", "last_checkpoint"):
            assert getattr(again, name) == getattr(wrote, name), name
        weights = load_weights(wrote.last_checkpoint)
        assert all(torch.equal(weights[name], value) for name, value in what.model.state_dict().items())


TRAIN_ON = {
    "without the callback": ((), {}, "max_epochs", 6),
    "more patience": ((partial(stops_early, 4),), {}, "early_stopping", 5),
    "another metric": ((lambda: EarlyStopping("train/loss"),), {}, "max_epochs", 6),
    "more epochs at least": ((stops_early,), {"min_epochs": 5}, "early_stopping", 5),
    "more steps at least": ((stops_early,), {"min_steps": 45}, "early_stopping", 5),
}


@each_backend
@pytest.mark.parametrize("name", TRAIN_ON)
@pytest.mark.filterwarnings("ignore:.*callbacks not in this run")
def test_a_run_that_was_stopped_early_trains_on_where_what_stopped_it_differs(framework, name, tmp_path):
    others, options, stopped_by, epochs = TRAIN_ON[name]
    fit(framework, ModelCheckpoint(tmp_path, save_last=True), stops_early(), max_epochs=6)
    new = [make() for make in others]
    longer = fit(framework, *new, ckpt_path=tmp_path / "last.ckpt", max_epochs=6, **options)
    assert (longer.stopped_by, len(longer.history)) == (stopped_by, epochs)


@each_backend
@pytest.mark.parametrize("at", [32, 42])
def test_a_request_that_a_minimum_holds_up_is_not_lost(framework, at, tmp_path):
    """Asked for after 3 epochs, though the metric is better later; 45 steps are in the middle of the fifth."""
    stopping = partial(EarlyStopping, "train/watched", patience=1, mode="max")
    log = (Event.EPOCH_END, lambda run: run.log("watched", [0.0, 1.0, 0.5, 2.0, 3.0, 4.0][run.state.epoch]))
    options = {"max_epochs": 6, "min_steps": 45}
    save = (Event.BATCH_END(once=at), lambda run: run.save_checkpoint(tmp_path / "a.ckpt"))
    one, other = spec(), spec()
    whole = fit(framework, stopping(), what=one, on=[log, save], **options)
    rest = fit(framework, stopping(), what=other, on=[log], ckpt_path=tmp_path / "a.ckpt", **options)
    assert (whole.step, whole.stopped_by) == (rest.step, rest.stopped_by) == (45, "early_stopping")
    assert whole.history == rest.history
    assert not differences(one.model.state_dict(), other.model.state_dict())


def test_without_its_request_a_run_that_was_stopped_early_trains_on(monkeypatch, tmp_path):
    monkeypatch.setattr(EarlyStopping, "asked", lambda self: None)
    fit("ignite", ModelCheckpoint(tmp_path, save_last=True), stops_early(), max_epochs=9)
    again = fit("ignite", ModelCheckpoint(tmp_path), stops_early(), ckpt_path=tmp_path / "last.ckpt", max_epochs=9)
    assert again.step == 40


@each_backend
def test_a_file_beyond_the_end_is_refused(framework, tmp_path):
    fit(framework, ModelCheckpoint(tmp_path, save_last=True))
    with pytest.raises(ConfigError, match=r"(?s)has already run 2 epochs, but max_epochs=1.*max_epochs=3 or more"):
        fit(framework, ModelCheckpoint(tmp_path), ckpt_path=tmp_path / "last.ckpt", max_epochs=1)


def test_a_file_of_a_signal_counts_if_it_is_the_newest(tmp_path):
    first = fit("ignite", ModelCheckpoint(tmp_path, save_last=True))
    rescue = tmp_path / "interrupted.ckpt"
    rescue.write_bytes(first.last_checkpoint.read_bytes())
    later = first.last_checkpoint.stat().st_mtime + 10
    os.utime(rescue, (later, later))
    assert fit("ignite", ModelCheckpoint(tmp_path, save_last=True), ckpt_path="last").last_checkpoint == rescue


@each_backend
def test_two_continuations_of_one_checkpoint_keep_both_their_files(framework, tmp_path):
    """The second one finds files of the first, which carry the name of the same run and are further on."""
    keep = partial(ModelCheckpoint, tmp_path, save_top_k=-1, save_last=True)
    fit(framework, keep())
    start = tmp_path / "epoch=0-step=10.ckpt"
    first = fit(framework, keep(), max_epochs=3, ckpt_path=start)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    second = fit(framework, keep(), max_epochs=3, ckpt_path=start)
    assert {path: path.read_bytes() for path in before} == before
    assert first.last_checkpoint != second.last_checkpoint
    again = fit(framework, keep(), max_epochs=4, ckpt_path=second.last_checkpoint)
    assert again.last_checkpoint == second.last_checkpoint


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize(("written", "read"), [("SGD", "Adam"), ("Adam", "SGD"), ("Adam", "RMSprop")])
def test_a_state_of_another_optimizer_is_refused(framework, written, read, tmp_path):
    with_optimizer = {one: spec(optimizer=partial(getattr(torch.optim, one), lr=0.1)) for one in (written, read)}
    fit(framework, ModelCheckpoint(tmp_path, save_last=True), what=with_optimizer[written], max_epochs=1)
    with pytest.raises(CheckpointError, match=f"does not fit {read}: it lacks"):
        fit(framework, what=with_optimizer[read], ckpt_path=tmp_path / "last.ckpt")


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("role", ["last", "best"])
def test_a_link_to_nothing_beside_the_files_is_passed_over(framework, role, tmp_path):
    fit(framework, ModelCheckpoint(tmp_path))
    (tmp_path / "gone.ckpt").symlink_to(tmp_path / "nothing.ckpt")
    result = fit(framework, ModelCheckpoint(tmp_path), ckpt_path=role, max_epochs=3)
    assert (result.epoch, result.step) == (2, 30)
