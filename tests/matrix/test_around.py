"""What is around a run: unitrain's callbacks and trackers, the native ones, modes, and a Ctrl-C."""

import csv
import signal
from functools import partial

import pytest
import torch
from torch import nn

from tests.matrix import cells
from unitrain import Event, UnifiedTrainer
from unitrain.callbacks import EarlyStopping, ModelCheckpoint
from unitrain.checkpoint import io
from unitrain.errors import ConfigError
from unitrain.loggers.csv import CSVLogger
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

ENGINES = ["lightning", "ignite"]
NAMESPACES = list(cells.NAMESPACES)


def make(framework, **options):
    return UnifiedTrainer(framework, **{"max_epochs": 2, "seed": 0, "enable_progress_bar": False, **options})


def kept(framework, folder):
    """Train with callbacks and a tracker; return the files' content, the rows and the end."""
    torch.manual_seed(0)
    best = ModelCheckpoint(folder, monitor="val/loss", save_top_k=2, save_last=True)
    stop = EarlyStopping("val/loss", patience=1, min_delta=0.1)
    tracker = CSVLogger(folder / "rows")
    trainer = make(framework, callbacks=[best, stop], loggers=[tracker], max_epochs=6, log_every_n_steps=2)
    result = trainer.fit(spec(), loader(), loader(samples=10))
    files = {path.name: io.read(path) for path in sorted(folder.glob("*.ckpt"))}
    with tracker.path.open() as rows:
        return files, list(csv.reader(rows)), (result.epoch, result.step, result.stopped_by)


@pytest.mark.parametrize("framework", ENGINES)
def test_callbacks_and_a_tracker_leave_the_same_files(framework, tmp_path):
    expected, got = kept("reference", tmp_path / "reference"), kept(framework, tmp_path / framework)
    assert len(expected[0]) == 3
    assert len(expected[1]) > 3
    assert expected[2][2] == "early_stopping"
    states = [
        {name: (one["state_dict"], one["optimizer_states"]) for name, one in each[0].items()}
        for each in (expected, got)
    ]
    assert not differences(*states)
    assert got[1:] == expected[1:]


@pytest.mark.parametrize("framework", ENGINES)
def test_a_part_in_eval_mode_stays_there_through_all_stages(framework):
    made = spec("cnn")
    frozen = next(one for one in made.model.modules() if isinstance(one, nn.BatchNorm2d)).eval()
    modes = [one.training for one in made.model.modules()]
    trainer = make(framework)
    for run in (
        partial(trainer.fit, made, loader(), loader()),
        partial(trainer.test, made, loader()),
        partial(trainer.predict, made, loader()),
    ):
        run()
        assert [one.training for one in made.model.modules()] == modes
    assert frozen.num_batches_tracked == 0


@pytest.mark.parametrize("framework", ENGINES)
def test_a_second_ctrl_c_comes_out(framework):
    trainer = make(framework, max_epochs=5)

    @trainer.on(Event.BATCH_END(once=2))
    def press_twice():  # once asks for a stop
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(spec(), loader())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_run_is_of_the_package_that_the_users_objects_come_from(namespace, tmp_path):
    lightning = cells.imported(namespace)
    seen = []

    class Sees(lightning.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            seen.append(isinstance(pl_module, lightning.LightningModule))

        def on_train_epoch_end(self, trainer, pl_module):
            seen.append(float(trainer.callback_metrics["val/loss"]))

    native = {"profiler": lightning.profilers.SimpleProfiler()}
    best = lightning.callbacks.ModelCheckpoint(dirpath=tmp_path, monitor="val/loss", filename="best")
    trainer = make("lightning", callbacks=[Sees(), best], native={"lightning": native}, max_epochs=1)
    made = spec()
    result = trainer.fit(made, loader(), loader())
    assert type(trainer.native) is lightning.Trainer
    assert seen == [*[True] * 6, result.metrics["val/loss"]]
    state = torch.load(tmp_path / "best.ckpt", weights_only=False)["state_dict"]
    assert not differences(
        {name.removeprefix("model."): one for name, one in state.items()}, dict(made.model.state_dict())
    )


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_native_early_stopping_stops_the_run(namespace):
    stop = cells.imported(namespace).callbacks.EarlyStopping("val/loss", patience=0, min_delta=100.0)
    result = make("lightning", callbacks=[stop], max_epochs=9).fit(spec(), loader(), loader())
    assert (result.epoch, result.stopped_by) == (1, "early_stopping")


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_the_bar_of_rich(namespace):
    bar = cells.imported(namespace).callbacks.RichProgressBar()
    assert make("lightning", callbacks=[bar]).fit(spec(), loader(), loader()).step == 12


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("framework", ["ignite", "reference"])
def test_lightnings_callbacks_hear_a_run_on_another_backend(framework, namespace):
    lightning = cells.imported(namespace)
    heard = {}

    class Hears(lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            assert isinstance(pl_module, lightning.LightningModule)
            heard.setdefault(self.who, []).append((trainer.global_step, batch_idx))

        def on_validation_end(self, trainer, pl_module):
            heard[self.who].append(float(trainer.callback_metrics["val/loss"]))

    for who in (framework, "lightning"):
        torch.manual_seed(0)
        hears = Hears()
        hears.who = who
        make(who, callbacks=[hears]).fit(spec(), loader(), loader())
    assert len(heard[framework]) == 14
    assert heard[framework] == heard["lightning"]


def test_objects_of_both_packages_are_refused_by_name():
    there = [name for name, distribution in cells.NAMESPACES.items() if cells.installed(distribution)]
    if len(there) == 2:
        timers = [cells.imported(name).callbacks.Timer() for name in there]
        with pytest.raises(
            ConfigError, match=r"Timer of pytorch_lightning and Timer of lightning\.pytorch[\s\S]*Hint: import"
        ):
            make("lightning", callbacks=timers).fit(spec(), loader())


@pytest.mark.parametrize("framework", ["ignite"])
def test_native_handlers_are_attached(framework):
    from ignite.handlers import Timer

    timer = Timer(average=True)
    trainer = make(framework, callbacks=[timer])
    trainer.fit(spec(), loader())
    assert timer.value() > 0


@pytest.mark.parametrize("framework", ["ignite"])
def test_loggers_of_ignite_are_told_from_its_progress_bar(framework):
    from unitrain_ignite._compat import BaseLogger, ProgressBar
    from unitrain_ignite.loggers import tracker

    rows = []

    class Rows(BaseLogger):
        def _create_output_handler(self, tag, **options):
            return lambda engine, logger, name: rows.append((tag, dict(engine.state.metrics)))

        def _create_opt_params_handler(self, *_, **__):
            raise NotImplementedError

    assert tracker(ProgressBar()) is None
    make(framework, loggers=[Rows()], max_epochs=1).fit(spec(), loader(), loader())
    assert {tag for tag, _ in rows} >= {"train", "val"}
