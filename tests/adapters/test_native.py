"""The real object is there, it ran the steps, and what belongs to it works as it is."""

import sys

import ignite.engine
import ignite.metrics
import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Events
from ignite.handlers import BasicTimeProfiler, Timer
from torch import nn

from unitrain import Callback, ConfigError, Event, TrainSpec, UnifiedTrainer, UnsupportedFeatureError
from unitrain.metrics.metric import metric
from unitrain.testing.cases import OPTIMIZERS, spec
from unitrain.testing.models import batches, loader, mlp
from unitrain.testing.trace import Case, differences, record

ENGINES = ["lightning", "ignite"]


def make(framework, **options):
    return UnifiedTrainer(framework, **{"max_epochs": 2, "seed": 0, "enable_progress_bar": False, **options})


def test_native_is_a_real_trainer_that_ran_the_steps():
    trainer = make("lightning")
    result = trainer.fit(spec(), loader(), loader())
    assert type(trainer.native) is pl.Trainer
    assert result.native is trainer.native
    assert trainer.native.global_step == result.step == 12
    assert trainer.native.current_epoch == 2
    assert trainer.native.fit_loop.epoch_loop.batch_progress.total.completed == 12


def test_native_is_a_real_engine_that_ran_the_steps():
    trainer = make("ignite")
    result = trainer.fit(spec(), loader(), loader())
    assert type(trainer.native) is ignite.engine.Engine
    assert result.native is trainer.native
    assert trainer.native.state.iteration == result.step == 12
    assert trainer.native.state.epoch == 2


LOOPS = {
    "lightning": ("pytorch_lightning.loops.training_epoch_loop", "advance"),
    "ignite": ("ignite.engine.engine", "_run_once_on_dataset_legacy"),
}


def frames():
    frame, found = sys._getframe(1), []
    while frame is not None:
        found.append((frame.f_globals["__name__"], frame.f_code.co_name, frame.f_locals.get("self")))
        frame = frame.f_back
    return found


@pytest.mark.parametrize("framework", ENGINES)
def test_each_step_runs_inside_the_loop_of_the_native_object(framework):
    trainer = make(framework)
    inside = []

    @trainer.on(Event.BATCH_START)
    def look():
        owners = {(module, name): owner for module, name, owner in frames()}
        owner = owners[LOOPS[framework]]
        inside.append(getattr(owner, "trainer", owner) is trainer.native)

    trainer.fit(spec(), loader())
    assert inside == [True] * 12
    others = [module.partition(".")[0] for name, (module, _) in LOOPS.items() if name != framework]
    assert not any(module.startswith(tuple(others)) for module, _, _ in frames())


@pytest.mark.parametrize("framework", ENGINES)
def test_evaluation_and_prediction_run_inside_the_native_object(framework):
    trainer = make(framework)
    seen = set()
    for event in (Event.VAL_BATCH_START, Event.TEST_BATCH_START, Event.PREDICT_BATCH_START):
        trainer.on(event, lambda: seen.update(module.partition(".")[0] for module, _, _ in frames()))
    trainer.validate(spec(), loader())
    trainer.test(spec(), loader())
    trainer.predict(spec(), loader())
    package = type(trainer.native).__module__.partition(".")[0]
    assert package in seen
    assert isinstance(trainer.native, (pl.Trainer, ignite.engine.Engine))


@pytest.mark.parametrize("framework", ENGINES)
def test_create_trainer_gives_the_object_that_the_next_fit_runs(framework):
    trainer = make(framework)
    native = trainer.create_trainer()
    assert isinstance(native, (pl.Trainer, ignite.engine.Engine))
    assert trainer.native is native
    assert trainer.fit(spec(), loader()).native is native
    again = trainer.fit(spec(), loader())
    assert again.native is not native
    assert again.step == 12


def test_native_arguments_reach_the_trainer():
    from pytorch_lightning.profilers import SimpleProfiler

    profiler = SimpleProfiler()
    trainer = make(
        "lightning", native={"lightning": {"profiler": profiler, "enable_autolog_hparams": False}, "ignite": {}}
    )
    trainer.fit(spec(), loader())
    assert trainer.native.profiler is profiler
    assert profiler.recorded_durations["run_training_batch"]


class LightningHooks(pl.Callback):
    """Notes every hook that a native callback may want under the shared step."""

    def __init__(self):
        self.calls = []
        self.metrics = []

    def on_train_start(self, trainer, pl_module):
        self.calls.append("on_train_start")

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        self.calls.append("on_before_zero_grad")

    def on_before_backward(self, trainer, pl_module, loss):
        self.calls.append("on_before_backward")

    def on_after_backward(self, trainer, pl_module):
        self.calls.append("on_after_backward")

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.calls.append("on_before_optimizer_step")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.calls.append("on_train_batch_end")

    def on_validation_end(self, trainer, pl_module):
        self.metrics.append(float(trainer.callback_metrics["val/loss"]))


def test_native_lightning_callbacks_see_every_hook_and_the_metrics():
    hooks = LightningHooks()
    trainer = make("lightning", callbacks=[hooks], max_epochs=1)
    result = trainer.fit(spec(), batches()[:2], loader())
    step = [
        "on_before_zero_grad",
        "on_before_backward",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_train_batch_end",
    ]
    assert hooks.calls == ["on_train_start", *step, *step]
    assert hooks.metrics == [result.metrics["val/loss"]]
    assert float(trainer.native.callback_metrics["train/loss"]) == result.metrics["train/loss"]


def test_native_early_stopping_stops_the_run():
    native = pl.callbacks.EarlyStopping("val/loss", patience=0, min_delta=100.0)
    result = make("lightning", callbacks=[native], max_epochs=9).fit(spec(), loader(), loader())
    assert (result.epoch, result.stopped_by) == (1, "early_stopping")


def test_a_native_stop_that_has_to_wait_leaves_validation_on():
    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = True

    result = make("lightning", max_epochs=5, min_epochs=2, callbacks=[Stop()]).fit(spec(), loader(), loader())
    assert ["val/loss" in row for row in result.history] == [True, True]


def test_native_checkpoint_callback_writes_the_model(tmp_path):
    native = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, monitor="val/loss", filename="best")
    made = spec()
    make("lightning", callbacks=[native], max_epochs=1).fit(made, loader(), loader())
    state = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert not differences(
        {name: state[f"model.{name}"] for name in made.model.state_dict()}, dict(made.model.state_dict())
    )


def test_native_ignite_handlers_are_attached():
    timer = Timer(average=True)
    trainer = make("ignite", callbacks=[timer])
    trainer.fit(spec(), loader())
    assert timer.value() > 0


def test_handlers_on_the_engine_of_create_trainer_are_called():
    trainer = make("ignite")
    calls = []
    engine = trainer.create_trainer()
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=5), lambda: calls.append(engine.state.iteration))
    trainer.fit(spec(), loader())
    assert calls == [5, 10]


def test_native_terminate_ends_the_run_as_the_user_did():
    trainer = make("ignite", max_epochs=5)
    engine = trainer.create_trainer()
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), engine.terminate)
    result = trainer.fit(spec(), loader())
    assert (result.epoch, result.stopped_by) == (1, "user")


@pytest.mark.parametrize(
    ("framework", "callback"),
    [("ignite", pl.callbacks.StochasticWeightAveraging(0.1)), ("reference", BasicTimeProfiler())],
)
def test_callbacks_that_need_the_loops_of_another_framework_are_refused(framework, callback):
    with pytest.raises(UnsupportedFeatureError, match=rf"{type(callback).__name__}[\s\S]*{framework}[\s\S]*Hint: "):
        make(framework, callbacks=[callback]).fit(spec(), loader())


def test_native_callbacks_of_the_spec_need_a_trainer_that_is_not_built_yet():
    trainer = make("lightning")
    trainer.create_trainer()
    with pytest.raises(ConfigError, match=r"before the spec added native callbacks: LightningHooks[\s\S]*Hint: "):
        trainer.fit(spec(callbacks=[LightningHooks()]), loader())


@pytest.mark.parametrize("framework", ENGINES)
def test_ignite_and_torchmetrics_metrics_agree_on_both_backends(framework):
    def both():
        made = {"theirs": ignite.metrics.Accuracy(), "ours": metric("accuracy", num_classes=5)}
        made["lambda"] = ignite.metrics.Precision(average=False).mean()
        made["transformed"] = ignite.metrics.Loss(
            nn.CrossEntropyLoss(), output_transform=lambda pair: (pair[0] * 2, pair[1])
        )
        return spec(metrics=made)

    case = Case(name="metrics", spec=both, train=loader, val=loader)
    result = make(framework).fit(both(), loader(), loader())
    assert result.metrics["val/theirs"] == pytest.approx(result.metrics["val/ours"], abs=1e-7)  # double and float32
    assert result.metrics["val/transformed"] != result.metrics["val/loss"]
    assert {"train/lambda", "val/lambda"} <= set(result.metrics)
    first, second = record("lightning", case), record("ignite", case)
    assert not differences(first, second)


@pytest.mark.parametrize("framework", [*ENGINES, "reference"])
def test_keyboard_interrupt_comes_out_as_it_is(framework):
    import signal

    before = signal.getsignal(signal.SIGINT)
    trainer = make(framework)

    @trainer.on(Event.BATCH_END(once=3))
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(spec(), loader())
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("framework", [*ENGINES, "reference"])
def test_a_handler_of_exception_that_fails_does_not_hide_the_error(framework):
    class Sloppy(Callback):
        def on_exception(self, run):
            assert isinstance(run.exception, ZeroDivisionError)
            raise OSError("disk full")

    trainer = make(framework, callbacks=[Sloppy()])
    trainer.on(Event.BATCH_END(once=2), lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        trainer.fit(spec(), loader())
    assert any("disk full" in note for note in caught.value.__notes__)


@pytest.mark.parametrize("framework", ENGINES)
def test_stop_iteration_in_user_code_is_an_error(framework):
    """Both engines would take it for the end of the epoch; the bare loop just lets it out."""

    def step(model, batch):
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        make(framework).fit(spec(training_step=step), loader())
    trainer = make(framework)
    trainer.on(Event.VAL_BATCH_END, lambda: next(iter(())))
    with pytest.raises(RuntimeError, match="StopIteration"):
        trainer.fit(spec(), loader(), loader())


@pytest.mark.parametrize("framework", [*ENGINES, "reference"])
def test_max_time_stops_the_run(framework):
    import time

    trainer = make(framework, max_epochs=None, max_time={"milliseconds": 300})
    trainer.on(Event.BATCH_END, lambda: time.sleep(0.02))
    result = trainer.fit(spec(), loader())
    assert result.stopped_by == "max_time"
    assert 1 <= result.step <= 16


@pytest.mark.parametrize("framework", [*ENGINES, "reference"])
def test_train_is_the_short_form_of_fit(framework):
    make_model = lambda: (torch.manual_seed(1), mlp())[1]  # noqa: E731
    short, long = make_model(), make_model()
    fields = {"loss": nn.CrossEntropyLoss(), "optimizer": OPTIMIZERS["sgd"]}
    make(framework).train(short, loader(), **fields)
    make(framework).train(TrainSpec(model=long, **fields), loader())
    assert not differences(dict(short.state_dict()), dict(long.state_dict()))


@pytest.mark.parametrize("framework", [*ENGINES, "reference"])
def test_an_empty_validation_is_no_validation(framework):
    result = make(framework).fit(spec(), loader(), [])
    assert result.step == 12
    assert not any(name.startswith("val/") for name in result.metrics)

    class Nothing:
        def __iter__(self):
            return iter(())

    result = make(framework).fit(spec(), loader(), Nothing())
    assert result.step == 12
    assert not any(name.startswith("val/") for name in result.metrics)


@pytest.mark.parametrize("framework", [*ENGINES, "reference"])
def test_an_error_is_not_logged_besides_being_raised(framework, caplog):
    trainer = make(framework)
    trainer.on(Event.VAL_BATCH_END, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(spec(), loader(), loader())
    assert not caplog.records
