"""A Lightning callback is called on every backend as on Lightning; that run is the oracle."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import lightning.pytorch
import pytest
import pytorch_lightning as pl
import torch

from tests.bridges.foreign import NoLength, equal, fit
from unitrain import CSVLogger, Event, ModelCheckpoint, UnifiedTrainer, UnsupportedFeatureError
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain_bridges.lightning.callbacks import ABSENT, INSTEAD, LightningCallback
from unitrain_bridges.lightning.trainer_view import TrainerView

ELSEWHERE = ("ignite", "reference")
HOOKS = [name for name in dir(pl.Callback) if name.startswith("on_") and name not in ABSENT]


class Hears(pl.Callback):
    """Notes each hook with its arguments and with where the trainer is; may act on it.

    Args:
        act: Called with the trainer, the module and the hook's name.
    """

    def __init__(self, act=lambda trainer, module, name: None):
        self.act = act
        self.calls = []
        self.kept = 0

    def note(self, name, trainer, module, *arguments, **options):
        last = trainer.is_last_batch if name == "on_train_batch_end" else None
        counts = (trainer.current_epoch, trainer.global_step, trainer.max_epochs, last)
        state = (str(trainer.state.fn), str(trainer.state.stage), trainer.training, trainer.validating)
        given = [type(one).__name__ if isinstance(one, torch.optim.Optimizer) else one for one in arguments]
        weights = [value.clone() for value in module.model.state_dict().values()]
        self.kept += 1
        metrics = {name: trainer.callback_metrics[name] for name in sorted(trainer.callback_metrics)}
        self.calls.append((name, counts, state, module.training, given, {**options}, metrics, weights))
        self.act(trainer, module, name)

    def setup(self, trainer, module, stage):
        self.note("setup", trainer, module, stage=str(stage))

    def teardown(self, trainer, module, stage):
        self.note("teardown", trainer, module, stage=str(stage))

    def state_dict(self):
        return {"kept": self.kept}

    def load_state_dict(self, state):
        self.kept = state["kept"]


for _name in HOOKS:
    setattr(Hears, _name, lambda self, trainer, module, *given, _name=_name: self.note(_name, trainer, module, *given))


def heard(framework, act=lambda trainer, module, name: None, **options):
    """Return what a callback heard of a fit, and what the fit came to."""
    callback = Hears(act)
    _, result, weights = fit(framework, [callback], **options)
    return [*callback.calls, ("end", result.stopped_by, result.step, dict(weights))]


def stop(hook, number):
    """Return what asks for the end when a hook is called for the n-th time."""
    calls = []

    def act(trainer, module, name):
        if name == hook:
            calls.append(name)
            trainer.should_stop = trainer.should_stop or len(calls) == number

    return act


RUNS = {
    "plain": dict,
    "no validation": partial(dict, val=None),
    "limit": partial(dict, limit_train_batches=4, limit_val_batches=2),
    "steps within an epoch": partial(dict, max_steps=8),
    "without end": partial(dict, max_epochs=-1, max_steps=7),
    "validation within": partial(dict, val_check_interval=2),
    "accumulation and clipping": partial(dict, accumulate_grad_batches=4, gradient_clip_val=0.1),
    "double": partial(dict, precision="64-true"),
    "stopped in a batch": lambda: {"act": stop("on_train_batch_end", 8)},
    "stopped after validation": lambda: {"act": stop("on_validation_end", 2)},
    "stopped at an epoch's end": lambda: {"act": stop("on_train_epoch_end", 1)},
}


@pytest.mark.parametrize("case", RUNS)
def test_callback_hears_what_it_hears_on_lightning(case):
    oracle = heard("lightning", **RUNS[case]())
    assert len(oracle) > 20
    for framework in ELSEWHERE:
        found = heard(framework, **RUNS[case]())
        assert [entry[:2] for entry in found] == [entry[:2] for entry in oracle]
        assert equal(found, oracle)


class Losses(pl.Callback):
    def __init__(self):
        self.told = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.told.append(outputs)


@pytest.mark.parametrize("framework", ["lightning", *ELSEWHERE])
@pytest.mark.parametrize("package", [pl, lightning.pytorch])
def test_the_outputs_of_a_batch_are_its_loss(framework, package):
    callback, losses = type("Losses", (package.Callback,), dict(vars(Losses)))(), []
    trainer = UnifiedTrainer(framework, callbacks=[callback], max_epochs=2, seed=1, enable_progress_bar=False)
    trainer.on(Event.BATCH_END, lambda run: losses.append(run.state.loss.clone()))
    trainer.fit(spec(), loader())
    assert len(losses) > 4
    assert all(list(one) == ["loss"] and not one["loss"].requires_grad for one in callback.told)
    assert all(map(torch.equal, [one["loss"] for one in callback.told], losses))


@pytest.mark.parametrize("framework", ["lightning", *ELSEWHERE])
def test_a_step_without_a_loss_has_no_outputs(framework):
    callback = Losses()
    trainer = UnifiedTrainer(framework, callbacks=[callback], max_epochs=1, enable_progress_bar=False)

    def step(run, batch):
        run.backward(run.model(batch[0]).float().mean())
        run.step()

    trainer.fit(replace(spec(), loss=None, metrics=None, training_step=step, automatic_optimization=False), loader())
    assert callback.told
    assert all(one == {} for one in callback.told)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_callback_hears_an_evaluation(stage):
    logs = []
    for framework in ("lightning", *ELSEWHERE):
        torch.manual_seed(0)
        callback = Hears()
        trainer = UnifiedTrainer(framework, callbacks=[callback], max_epochs=3, seed=1, enable_progress_bar=False)
        getattr(trainer, stage)(spec(), loader(shuffle=False))
        logs.append(callback.calls)
    assert len(logs[0]) > 10
    assert [entry[0] for entry in logs[1]] == [entry[0] for entry in logs[0]]
    assert equal(logs[1], logs[0])
    assert equal(logs[2], logs[0])


def test_minima_hold_for_a_stop():
    """On Lightning itself a Trainer that is to stop, and may not yet, validates no more; elsewhere it does."""
    runs = [heard(framework, stop("on_train_batch_end", 2), min_epochs=2) for framework in ELSEWHERE]
    assert equal(*runs)
    assert runs[0][-1][1:3] == ("user", 12)


def first_epoch_again(self, run, original=LightningCallback.on_epoch_start):
    original(self, run)
    self._trainer.current_epoch = 0


FAULTS = {
    "the epoch's number": ("on_epoch_start", first_epoch_again),
    "metrics too early": (
        "on_epoch_end",
        lambda self, run: (self._trainer.publish(), self._call("on_train_epoch_end")),
    ),
    "no gradients": ("on_backward_end", lambda self, run: None),
    "no loss": ("on_batch_end", lambda self, run: self._call("on_train_batch_end", {}, run.batch, self._index)),
    "no batch": ("on_batch_end", lambda self, run: self._call("on_train_batch_end", {}, None, self._index)),
    "no validation": ("on_val_end", lambda self, run: self._trainer.enter("TRAINING", "FITTING")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_follower_is_noticed(monkeypatch, fault):
    oracle = heard("lightning")
    monkeypatch.setattr(LightningCallback, *FAULTS[fault])
    assert not equal(heard("reference"), oracle)


def test_without_a_length_only_the_last_batch_is_unknown():
    for framework in ELSEWHERE:
        log = heard(framework, train=NoLength)
        assert log[-1][1:3] == ("max_epochs", 18)


STOPPING = {
    "validation": {"monitor": "val/loss", "patience": 0, "min_delta": 0.2},
    "training": {"monitor": "train/loss", "patience": 1, "min_delta": 0.5},
    "threshold": {"monitor": "val/acc", "mode": "max", "stopping_threshold": 0.1},
    "patience": {"monitor": "val/loss", "patience": 2, "min_delta": 9.0},
}


@pytest.mark.parametrize("package", [pl, lightning.pytorch])
@pytest.mark.parametrize("case", STOPPING)
def test_early_stopping(case, package):
    found = []
    for framework in ("lightning", *ELSEWHERE):
        home = pl if framework == "lightning" else package
        callback = home.callbacks.EarlyStopping(**STOPPING[case])
        _, result, weights = fit(framework, [callback], max_epochs=8)
        state = callback.state_dict()
        found.append((result.epoch, result.step, dict(weights), state["wait_count"], state["best_score"].double()))
    assert found[0][0] < 7
    assert equal(found[1], found[0])
    assert equal(found[2], found[0])


@pytest.mark.parametrize("framework", ELSEWHERE)
def test_early_stopping_is_the_reason(framework):
    callback = pl.callbacks.EarlyStopping("val/loss", patience=0, min_delta=9.0)
    assert fit(framework, [callback])[1].stopped_by == "early_stopping"


@pytest.mark.slow
@pytest.mark.parametrize("framework", ELSEWHERE)
def test_several_processes_stop_together(framework):
    callback = pl.callbacks.EarlyStopping("val/loss", patience=1, min_delta=9.0)
    _, result, _ = fit(framework, [callback], devices=2, accelerator="cpu", max_epochs=6)
    assert (result.epoch, result.stopped_by, callback.wait_count) == (1, "early_stopping", 1)


@pytest.mark.parametrize("limit", [timedelta(seconds=0), timedelta(hours=1)])
def test_timer_and_lambda(limit):
    found = []
    for framework in ("lightning", *ELSEWHERE):
        seen = []
        timer = pl.callbacks.Timer(limit, interval="step")
        note = pl.callbacks.LambdaCallback(
            on_train_batch_end=lambda trainer, *_, seen=seen: seen.append(trainer.global_step)
        )
        _, result, _ = fit(framework, [note, timer])
        found.append((seen, result.step))
    assert len(found[0][0]) == (0 if not limit else 18)
    assert found[1] == found[0]
    assert found[2] == found[0]


@pytest.mark.filterwarnings("ignore:.*contains state for callbacks not in this run")
@pytest.mark.parametrize("step", [2, 6, 9])
@pytest.mark.parametrize("framework", ELSEWHERE)
def test_a_run_that_goes_on(tmp_path, framework, step):
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=step, save_top_k=-1)
    fit(framework, [saving, Hears()], max_epochs=2)
    first = min(tmp_path.glob("*.ckpt"), key=lambda file: torch.load(file)["global_step"])
    logs = []
    for backend in ("lightning", framework):
        callback = Hears()
        fit(backend, [callback], ckpt_path=first)
        logs.append(callback)
    assert equal([entry[:2] for entry in logs[1].calls], [entry[:2] for entry in logs[0].calls])
    assert equal(logs[1].calls, logs[0].calls)
    own = torch.load(first)["unitrain"]["callbacks"]["lightning.Hears"]
    assert logs[1].kept == own["kept"] + len(logs[1].calls)


@pytest.mark.filterwarnings("ignore:.*contains state for callbacks not in this run")
def test_early_stopping_goes_on_with_its_patience(tmp_path):
    ends = []
    for framework in ELSEWHERE:
        whole = pl.callbacks.EarlyStopping("val/loss", patience=3, min_delta=9.0)
        ends.append(fit(framework, [whole], max_epochs=9)[1].step)
        saving = ModelCheckpoint(tmp_path / framework, every_n_epochs=1, save_top_k=-1)
        first = pl.callbacks.EarlyStopping("val/loss", patience=3, min_delta=9.0)
        fit(framework, [first, saving], max_epochs=2)
        second = pl.callbacks.EarlyStopping("val/loss", patience=3, min_delta=9.0)
        newest = max((tmp_path / framework).glob("*.ckpt"), key=lambda file: torch.load(file)["global_step"])
        ends.append(fit(framework, [second], max_epochs=9, ckpt_path=newest)[1].step)
    assert len(set(ends)) == 1


def test_an_error_is_told_and_raised():
    told = []
    for framework in ("lightning", *ELSEWHERE):

        def act(trainer, module, name):
            if name == "on_train_batch_end" and trainer.global_step == 2:
                raise LookupError("on purpose")

        callback = Hears(act)
        with pytest.raises(LookupError, match="on purpose"):
            fit(framework, [callback])
        told.append([entry[0] for entry in callback.calls])
    assert told[0][-1] == "on_exception"
    assert told[1] == told[0]
    assert told[2] == told[0]


@pytest.mark.parametrize("framework", ELSEWHERE)
def test_trackers_are_its_logger(tmp_path, framework):
    def act(trainer, module, name):
        if name == "on_train_epoch_end":
            trainer.logger.log_metrics({"mine": 1.5})

    heard(framework, act, loggers=[CSVLogger(tmp_path)], max_epochs=1)
    assert "mine" in "".join(file.read_text() for file in tmp_path.rglob("*.csv"))


REFUSED = {
    "StochasticWeightAveraging": lambda: pl.callbacks.StochasticWeightAveraging(0.1),
    "GradientAccumulationScheduler": lambda: pl.callbacks.GradientAccumulationScheduler({0: 2}),
    "BatchSizeFinder": pl.callbacks.BatchSizeFinder,
    "ModelPruning": lambda: pl.callbacks.ModelPruning("l1_unstructured"),
    "ModelCheckpoint": lambda: pl.callbacks.ModelCheckpoint(monitor="val/loss"),
    "LearningRateMonitor": pl.callbacks.LearningRateMonitor,
    "TQDMProgressBar": pl.callbacks.TQDMProgressBar,
    "Sub": type("Sub", (pl.callbacks.ModelCheckpoint,), {}),
    "Logs": type("Logs", (pl.Callback,), {"on_before_backward": lambda *_: None}),
    "Saves": type("Saves", (pl.Callback,), {"on_save_checkpoint": lambda *_: None}),
    "LambdaCallback": lambda: pl.callbacks.LambdaCallback(on_before_zero_grad=lambda *_: None),
}


@pytest.mark.parametrize("framework", ELSEWHERE)
@pytest.mark.parametrize("case", REFUSED)
def test_what_needs_lightnings_loops_is_refused_by_name(framework, case):
    made = spec()
    before = [value.clone() for value in made.model.state_dict().values()]
    hint = INSTEAD.get(case, "")
    with pytest.raises(UnsupportedFeatureError, match=rf"{case}[\s\S]*{framework}[\s\S]*Hint: ") as caught:
        fit(framework, [REFUSED[case]()], make=lambda: made)
    assert hint in str(caught.value)
    assert equal(before, list(made.model.state_dict().values()))


@pytest.mark.parametrize("framework", ELSEWHERE)
@pytest.mark.parametrize(
    ("options", "make"),
    [({"precision": "16-mixed"}, spec), ({}, partial(spec, optimizer="lbfgs"))],
    ids=["scaled", "closure"],
)
def test_the_moment_before_a_step_is_refused_where_it_is_unknown(framework, options, make):
    with pytest.raises(UnsupportedFeatureError, match=r"on_before_optimizer_step[\s\S]*Hint: "):
        fit(framework, [Hears()], make=make, **options)


ASKED = {
    "fit_loop": lambda trainer, module: trainer.fit_loop,
    "strategy.model_to_device": lambda trainer, module: trainer.strategy.model_to_device(),
    "log": lambda trainer, module: module.log("x", 1.0),
    "log_dict": lambda trainer, module: trainer.callbacks[0].log_dict({"x": 1.0}),
    "weights_only": lambda trainer, module: trainer.save_checkpoint("x.ckpt", weights_only=True),
}


@pytest.mark.parametrize("framework", ELSEWHERE)
@pytest.mark.parametrize("name", ASKED)
def test_what_a_run_has_not_is_named(framework, name):
    def act(trainer, module, hook):
        if hook == "on_train_start":
            ASKED[name](trainer, module)

    with pytest.raises(UnsupportedFeatureError, match=rf"{name}[\s\S]*Hint: "):
        heard(framework, act)


@pytest.mark.filterwarnings("ignore:.*contains state for callbacks not in this run")
def test_what_the_trainer_and_the_module_say(tmp_path):
    def act(trainer, module, hook):
        if hook == "on_train_epoch_end" and trainer.current_epoch == 0:
            trainer.save_checkpoint(tmp_path / "asked.ckpt")
            found.append(
                (
                    trainer.num_training_batches,
                    module.current_epoch,
                    module.global_step,
                    str(module.device),
                    module.trainer is not None,
                )
            )
            found.append((type(trainer.optimizers[0]), trainer.world_size, trainer.is_global_zero, trainer.max_steps))
            found.append((trainer.fast_dev_run, trainer.accumulate_grad_batches, trainer.loggers, trainer.log_dir))

    said = []
    for framework in ("lightning", *ELSEWHERE):
        found = []
        heard(framework, act)
        said.append(found)
    assert said[0]
    assert said[1] == said[0]
    assert said[2] == said[0]
    made = fit("ignite", [], ckpt_path=tmp_path / "asked.ckpt")
    assert equal(dict(made[2]), dict(fit("reference", [])[2]))


def test_every_attribute_is_one_that_a_trainer_has():
    own = {name for name in vars(TrainerView) if not name.startswith("_")} - {"enter", "publish", "should_stop"}
    assert own <= set(dir(pl.Trainer))
