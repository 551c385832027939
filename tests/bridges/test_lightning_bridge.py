"""UnifiedTrainer with a LightningModule: what comes back, which engine ran, what is refused, and that faults are seen."""

from __future__ import annotations

import ast
import inspect
import random
import traceback
from functools import partial
from pathlib import Path

import ignite.engine
import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loops import _FitLoop

from tests.bridges.lightning_subject import (
    PACKAGES,
    Log,
    Steps,
    generators,
    in_order,
    listening_callback,
    listening_module,
    parted,
    shown,
    shuffled,
    subject,
    told,
)
from tests.bridges.lightning_ways import Breaking
from tests.bridges.test_lightning_same import plain
from unitrain import (
    DDP,
    Callback,
    ConfigError,
    DataError,
    DataSpec,
    SpecError,
    TrainSpec,
    UnifiedTrainer,
    UnsupportedFeatureError,
)
from unitrain.compat import upgrade
from unitrain.config import TrainerConfig
from unitrain_bridges.lightning import epoch, fit, hooks, optimization, options, self_log, stages, supported
from unitrain_bridges.lightning.bridge import LightningBridge

BACKENDS = ("lightning", "ignite", "reference")
QUIET = {"enable_progress_bar": False, "enable_model_summary": False}
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def unified(framework, package=pl, **options):
    native = {"logger": False, "enable_model_summary": False, **options.pop("native", {})}
    given = {"max_epochs": 3, "seed": 5, "enable_progress_bar": False, **options}
    return UnifiedTrainer(framework, native={"lightning": native}, **given)


def module(package=pl, steps=Steps, log=None):
    torch.manual_seed(3)
    return listening_module(subject(package, steps), Log() if log is None else log)()


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES.values())
def test_the_result_is_the_same_on_all(package, tmp_path, monkeypatch):
    found = {}
    for framework in BACKENDS:
        (tmp_path / framework).mkdir()
        monkeypatch.chdir(tmp_path / framework)
        log = Log()
        random.seed(5)
        saving = package.callbacks.ModelCheckpoint("files", monitor="val_loss", save_last=True)
        stop = package.callbacks.EarlyStopping("val_loss", min_delta=9.0, patience=2)
        trainer = unified(framework, max_epochs=9, callbacks=[listening_callback(package, log), saving, stop])
        result = trainer.fit(module(package, log=log), shuffled(), in_order())
        assert result.framework == framework
        assert result.native is trainer.native
        assert trainer.model is trainer.foreign_trainer.lightning_module
        told = {**vars(result), "framework": None, "native": None, "_facts": None}  # these have times
        told |= {name: told[name].relative_to(tmp_path / framework) for name in ("best_checkpoint", "last_checkpoint")}
        again = (
            trainer.test(None, in_order(), ckpt_path="best"),
            [one.tolist() for one in trainer.predict(None, in_order(), "best")],
        )
        found[framework] = (
            told,
            again,
            [repr(one).replace(framework, ".") for one in log],
            generators(),
            trainer.state.epoch,
        )
    assert found["lightning"] == found["ignite"] == found["reference"]
    result = found["ignite"][0]
    assert result["stopped_by"] == "early_stopping"
    assert (result["epoch"], result["step"]) == (2, 24)
    assert [(row["epoch"], row["step"]) for row in result["history"]] == [(0, 8), (1, 16), (2, 24)]
    assert result["history"][-1]["val_loss"] == result["metrics"]["val_loss"]
    assert {"loss_step", "loss_epoch", "at_the_end", "val_end"} < result["history"][0].keys()


@pytest.mark.parametrize(
    ("reason", "options"),
    [
        ("max_epochs", {}),
        ("max_steps", {"max_steps": 5}),
        ("max_time", {"max_time": {"microseconds": 1}}),
        ("user", {}),
    ],
)
@pytest.mark.parametrize("framework", BACKENDS)
def test_why_it_stopped(framework, reason, options):
    trainer = unified(framework, **options)
    stop = pl.callbacks.LambdaCallback(on_train_batch_end=lambda *_: trainer.stop())
    if reason == "user":
        trainer = unified(framework, callbacks=[stop])
    assert trainer.fit(module(), shuffled(), in_order()).stopped_by == reason


def test_an_epoch_has_what_it_measured_alone():
    for framework in BACKENDS:
        rows = unified(framework, check_val_every_n_epoch=2).fit(module(), shuffled(), in_order()).history
        assert ["val_loss" in row for row in rows] == [False, True, False]


def test_home_is_the_untouched_trainer(tmp_path):
    def by_hand(package, tools):
        trainer = tools.trainer(max_epochs=2)
        trainer.fit(tools.module(), shuffled(), in_order())
        return [trainer.global_step]

    trainers = []
    untouched = told(None, by_hand, tmp_path / "a")

    def unified_home(package, tools):
        def make(**options):
            return options

        given = tools.trainer(max_epochs=2)
        own = [one for one in given.callbacks if type(one).__name__ == "Listening"]
        options = {"logger": given.loggers, "log_every_n_steps": 2, "enable_model_summary": False}
        trainer = UnifiedTrainer(
            "lightning",
            max_epochs=2,
            callbacks=own,
            native={"lightning": options},
            enable_progress_bar=False,
            default_root_dir=tools.folder,
        )
        trainers.append(trainer)
        return [trainer.fit(tools.module(), shuffled(), in_order()).step]

    assert not parted(untouched, told(None, unified_home, tmp_path / "b"))
    assert type(trainers[0].native) is pl.Trainer
    assert trainers[0].foreign_trainer is trainers[0].native
    assert trainers[0].native.fit_loop.epoch_loop.val_loop._has_run


def test_what_is_not_given_is_lightnings(tmp_path):
    """An untouched UnifiedTrainer writes what an untouched Trainer writes, wherever it runs."""
    found = {}
    for framework in BACKENDS:
        folder = tmp_path / framework
        trainer = UnifiedTrainer(framework, max_epochs=1, seed=1, default_root_dir=folder, enable_progress_bar=False)
        trainer.fit(subject(pl)(), shuffled(), in_order())
        found[framework] = sorted(str(one.relative_to(folder)).partition(".out")[0] for one in folder.rglob("*"))
    assert found["lightning"] == found["ignite"] == found["reference"]
    assert any("epoch=0-step=8.ckpt" in one for one in found["ignite"])


# --- who ran it -------------------------------------------------------------------------------------------------------


class Witness(Steps):
    def training_step(self, batch, batch_idx):
        self.stack = [frame.filename for frame in traceback.extract_stack()]
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.evaluated = [frame.filename for frame in traceback.extract_stack()]
        return super().validation_step(batch, batch_idx)


def test_the_engine_runs_the_steps_and_lightnings_loops_do_not(monkeypatch):
    def poison(*_, **__):
        raise AssertionError("Lightning ran")

    monkeypatch.setattr(stages, "refuse_loops", lambda *_: None)  # they are replaced, to see that nobody calls them
    for package in PACKAGES.values():
        loops = package.loops
        monkeypatch.setattr(package.Trainer, "fit", poison)
        for loop in (loops._FitLoop, loops._TrainingEpochLoop, loops._EvaluationLoop, loops._PredictionLoop):
            for name in ("run", "advance", "on_advance_start", "on_advance_end", "on_run_start", "on_run_end"):
                monkeypatch.setattr(loop, name, poison, raising=False)
            monkeypatch.setattr(loop, "__init__", poison)
        for framework, place in (("ignite", "ignite/engine/engine.py"), ("reference", "testing/reference.py")):
            trainer, witness = unified(framework), subject(package, Witness)()
            result = trainer.fit(witness, shuffled(), in_order())
            for stack in (witness.stack, witness.evaluated):
                assert any(one.endswith(place) for one in stack)
                assert not any("loops/" in one for one in stack)
            assert result.step == 24
            trainer.test(witness, in_order())
            assert len(trainer.predict(witness, in_order())) == 3
    assert isinstance(unified_native(), ignite.engine.Engine)


def unified_native():
    trainer = unified("ignite", max_epochs=1)
    trainer.fit(module(), shuffled(), in_order())
    assert trainer.native.state.iteration == 8
    return trainer.native


def test_ignites_handlers_attach_to_the_engine():
    seen = []

    class Handler:
        def attach(self, engine):
            engine.add_event_handler(ignite.engine.Events.ITERATION_COMPLETED, seen.append)

    early = pl.callbacks.EarlyStopping("val_loss")
    trainer = unified("ignite", max_epochs=1, callbacks=[Handler(), early])
    trainer.fit(module(), shuffled(), in_order())
    assert seen == [trainer.native] * 8
    assert early in trainer.foreign_trainer.callbacks
    assert set(trainer.native.state.output) == {"loss"}


def test_a_tracker_gets_lightnings_rows():
    class Tracker:
        def __init__(self):
            self.told = []

        def begin(self, rows):
            self.told.append(("begin", rows))

        def log_metrics(self, metrics, step):
            self.told.append((dict(metrics), step))

        def log_hyperparams(self, params):
            self.told.append(params)

    trackers = {}
    for framework in BACKENDS:
        trackers[framework] = one = Tracker()
        UnifiedTrainer(
            framework, max_epochs=2, seed=2, loggers=[one], log_every_n_steps=3, enable_progress_bar=False
        ).fit(module(), shuffled(), in_order())
    assert trackers["lightning"].told == trackers["ignite"].told == trackers["reference"].told
    assert trackers["ignite"].told[:2] == [("begin", 0), {"width": 4, "how": "one"}]
    assert trackers["ignite"].told[-1][0]["at_the_end"] == 1.0


def test_stop_and_save_from_outside(tmp_path):
    trainer = unified("ignite", max_epochs=2)
    trainer.fit(module(), shuffled(), in_order())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = subject(pl).load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(again.head.weight, trainer.model.head.weight)
    with pytest.raises(KeyError):
        unified("ignite").fit(module(steps=Breaking), shuffled(), in_order())


# --- compile=True -----------------------------------------------------------------------------------------------------


class Compilable(Steps):
    """Logs nothing: self.log within a compiled step is beyond torch."""

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.loss(batch)

    test_step = validation_step


@pytest.fixture
def graphs(monkeypatch):
    """Trace as torch.compile does, without a compiler of C++; what was traced is in the list."""
    found = []

    def kept(graph, inputs):
        found.append(graph)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=kept))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("framework", BACKENDS)
def test_a_compiled_module_is_trained_as_by_lightning(framework, graphs):
    def plain_fit(one):
        pl.seed_everything(5)
        trainer = pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, **QUIET)
        trainer.fit(torch.compile(one), shuffled(), in_order())
        pl.seed_everything(5)
        return trainer.predict(torch.compile(one), in_order())

    def bridged(one):
        trainer = unified(framework, compile=True, max_epochs=2, native={"enable_checkpointing": False})
        trainer.fit(one, shuffled(), in_order())
        return trainer.predict(one, in_order())

    def told_of(fit):
        torch.compiler.reset()
        graphs.clear()
        one = module(steps=Compilable)
        predicted = fit(one)
        return one, [len(graphs), *(shown(value) for value in (*one.state_dict().values(), predicted, generators()))]

    _, wanted = told_of(plain_fit)
    one, found = told_of(bridged)
    assert found == wanted
    assert wanted[0] > 0
    assert one._compiler_ctx is None
    assert not {"forward", "training_step"} & vars(one).keys()


@pytest.mark.parametrize("framework", BACKENDS)
def test_a_module_is_not_compiled_twice(framework, graphs):
    with pytest.raises(ConfigError, match="already compiled"):
        unified(framework, compile=True).fit(torch.compile(module(steps=Compilable)), shuffled())


def test_a_module_that_is_not_compiled_is_noticed(graphs, monkeypatch):
    """The number of graphs is what tells."""
    monkeypatch.setattr(torch, "compile", lambda one: one)
    unified("ignite", compile=True, max_epochs=1).fit(module(steps=Compilable), shuffled())
    assert not graphs


# --- what is refused --------------------------------------------------------------------------------------------------


_SHARDED = pl.plugins.FSDPPrecision("bf16-mixed")
REFUSED = {
    "plugin": ({"native": {"plugins": [_SHARDED]}}, UnsupportedFeatureError, "the plugin FSDPPrecision only works on"),
    "strategy": ({"native": {"strategy": "ddp_spawn"}}, UnsupportedFeatureError, "strategy='ddp_spawn'"),
    "strategy of unitrain": ({"strategy": DDP()}, UnsupportedFeatureError, "for a TrainSpec"),
    "prefetching": (
        {"prefetch_to_device": True},
        UnsupportedFeatureError,
        "prefetch_to_device=True is for a TrainSpec",
    ),
    "registry": ({"native": {"model_registry": "a"}}, UnsupportedFeatureError, "model_registry='a'"),
    "hosts": ({"native": {"num_nodes": 2}}, UnsupportedFeatureError, "num_nodes=2"),
    "processes": ({"native": {"devices": 2}}, UnsupportedFeatureError, "devices=2"),
    "twice": ({"max_steps": 3, "native": {"max_steps": 4}}, ConfigError, "max_steps: given both as an option and"),
    "unknown": ({"native": {"max_epoch": 4}}, TypeError, "unexpected keyword argument 'max_epoch'"),
    "the other package's": ({"callbacks": [lp.callbacks.Timer()]}, ConfigError, "Timer"),
    "unitrain's callback": ({"callbacks": [Callback()]}, ConfigError, "would never be called"),
}


def test_every_option_is_an_argument_of_the_trainer_or_handled():
    """A new option of unitrain would reach Lightning as an unexpected argument."""
    own = set(TrainerConfig.__dataclass_fields__) - set(inspect.signature(pl.Trainer.__init__).parameters)
    assert own - set(options._OWN) == {"prefetch_to_device"}  # refused below


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_it_runs(name):
    given, error, message = REFUSED[name]
    log = Log()
    with pytest.raises(error, match=message) as raised:
        unified("ignite", **given).fit(module(log=log), shuffled(), in_order())
    assert log == []
    assert "Hint:" in str(raised.value) or error is TypeError


@pytest.mark.parametrize("framework", BACKENDS[1:])
def test_hooks_that_nobody_calls_any_more_are_told(framework, recwarn):
    class Old(pl.Callback):
        def on_init_end(self, trainer):
            raise AssertionError

    class OldSteps(Steps):
        def on_epoch_end(self):
            raise AssertionError

    unified(framework, max_epochs=1, callbacks=[Old()]).fit(module(steps=OldSteps), shuffled())
    told = [str(one.message) for one in recwarn if "Lightning 2 does not call" in str(one.message)]
    assert told == [
        f"Lightning 2 does not call {name}. Hint: put it into {instead}."
        for name, instead in (("OldSteps.on_epoch_end", "on_train_epoch_end"), ("Old.on_init_end", "setup"))
    ]


@pytest.mark.parametrize("framework", BACKENDS[1:])
def test_hooks_that_upgrade_calls_are_not_told(framework, recwarn):
    class OldSteps(Steps):
        def on_epoch_end(self):
            self.ends = getattr(self, "ends", 0) + 1

    class Newer(upgrade(subject(pl, OldSteps), "1.x")):
        def on_batch_end(self):
            raise AssertionError

    torch.manual_seed(3)
    made = Newer()
    unified(framework, max_epochs=2).fit(made, shuffled())
    assert made.ends == 2
    told = [str(one.message) for one in recwarn if "Lightning 2 does not call" in str(one.message)]
    assert told == ["Lightning 2 does not call Newer.on_batch_end. Hint: put it into on_train_batch_end."]


def test_an_ignite_handler_stops_a_module_after_the_iteration_that_it_hears():
    heard, made = [], module()

    class Stops:
        def attach(self, engine):
            engine.add_event_handler(ignite.engine.Events.ITERATION_COMPLETED, self.hear)

        def hear(self, engine):
            heard.append(engine.state.iteration)
            made.trainer.should_stop = engine.state.iteration == 2

    result = unified("ignite", callbacks=[Stops()]).fit(made, shuffled())
    assert (heard, result.step) == ([1, 2], 2)


@pytest.mark.parametrize("package", [pl, lp], ids=["pytorch_lightning", "lightning.pytorch"])
def test_a_spec_with_callbacks_of_a_package_gets_its_trainer(package):
    spec = TrainSpec(model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer = UnifiedTrainer("lightning", max_epochs=1, callbacks=[package.callbacks.Timer()])
    trainer.fit(spec, in_order())
    assert type(trainer.native) is package.Trainer
    assert isinstance(trainer.native.lightning_module, package.LightningModule)


def test_a_spec_with_objects_of_both_packages_is_refused():
    spec = TrainSpec(model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    native = {"lightning": {"profiler": lp.profilers.SimpleProfiler()}}
    with pytest.raises(
        ConfigError, match=r"Timer of pytorch_lightning and SimpleProfiler of lightning.pytorch[\s\S]*Hint: "
    ):
        UnifiedTrainer("lightning", callbacks=[pl.callbacks.Timer()], native=native).fit(spec, in_order())


def test_data_of_a_spec_is_refused():
    with pytest.raises(DataError, match="got a DataSpec"):
        unified("ignite").fit(module(), DataSpec(train=shuffled()))


def test_something_else_of_lightning_is_refused():
    with pytest.raises(SpecError, match="Trainer is not a LightningModule"):
        unified("ignite").fit(pl.Trainer(logger=False, enable_checkpointing=False), shuffled())


# --- what the module sees ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seen():
    trainer = unified("ignite", max_epochs=1, native={"enable_checkpointing": False})
    trainer.fit(module(), shuffled(), in_order())
    return trainer.foreign_trainer


@pytest.mark.parametrize("name", sorted(supported.TRAINER))
def test_what_is_said_to_be_there_is_there(seen, name):
    getattr(seen, name)


def test_all_that_a_trainer_shows_is_said_to_be_there_or_not():
    real = pl.Trainer(logger=False, enable_checkpointing=False)
    public = {name for name in dir(real) if not name.startswith("_")}
    assert public == supported.TRAINER | supported.ELSEWHERE.keys()
    assert not supported.TRAINER & supported.ELSEWHERE.keys()


def test_the_loops_have_what_is_said(seen):
    loops = {
        "fit_loop": seen.fit_loop,
        "epoch_loop": seen.fit_loop.epoch_loop,
        "val_loop": seen.fit_loop.epoch_loop.val_loop,
    }
    real = pl.Trainer(logger=False, enable_checkpointing=False).fit_loop
    at_home = {"fit_loop": real, "epoch_loop": real.epoch_loop, "val_loop": real.epoch_loop.val_loop}
    for name, attributes in supported.LOOPS.items():
        assert all(hasattr(type(loops[name]), one) or one in vars(loops[name]) for one in attributes)
        assert all(hasattr(type(at_home[name]), one) or one in vars(at_home[name]) for one in attributes)


def test_what_is_not_there_is_named(seen):
    assert not hasattr(seen, "signal_connector")
    with pytest.raises(AttributeError, match=r"no attribute 'current_epochs'.*\n.*'current_epoch'"):
        _ = seen.current_epochs
    with pytest.raises(UnsupportedFeatureError, match="'lightning', not on 'ignite'"):
        _ = seen._fit_impl
    seen.anything = 3
    assert seen.anything == 3


def test_the_list_needs_no_framework():
    tree = ast.parse(Path(supported.__file__).read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]


# --- scripts as they are ----------------------------------------------------------------------------------------------


def test_redirected_everywhere_and_put_back():
    real = pl.Trainer, lp.Trainer
    with LightningBridge().redirected("ignite"):
        import lightning
        from pytorch_lightning.cli import LightningCLI
        from pytorch_lightning.trainer.trainer import Trainer

        assert Trainer is pl.Trainer is not real[0]
        assert lightning.Trainer is lp.Trainer is not real[1]
        assert isinstance(pl.Trainer(logger=False, enable_checkpointing=False), pl.Trainer)
        with pytest.raises(UnsupportedFeatureError, match="a real Trainer only runs on 'lightning'"):
            real[0](logger=False)
        assert pl.Trainer in LightningCLI.__init__.__defaults__
    assert (pl.Trainer, lp.Trainer) == real
    assert pl.Trainer in LightningCLI.__init__.__defaults__
    assert pl.Trainer(logger=False, enable_checkpointing=False).fit_loop.__class__ is _FitLoop


def test_redirected_to_its_home_nothing_changes():
    real = pl.Trainer
    with LightningBridge().redirected("lightning"):
        assert pl.Trainer is real


# --- that a fault is seen ---------------------------------------------------------------------------------------------


def _drawing(original):
    def faulty(self, *given, **options):
        torch.rand(())
        return original(self, *given, **options)

    return faulty


def _swapped(self, name, *arguments):
    returned = self.module(name, *arguments)
    self.callbacks(name, *arguments)
    return returned


def _nothing(*_, **__):
    return None


def _always(self, *_):
    return True


FAULTS = {
    "hooks swapped": (hooks.Hooks, "both", _swapped),
    "a draw more": (epoch.EpochLoop, "run_start", _drawing(epoch.EpochLoop.run_start)),
    "no zero_grad": (optimization.AutomaticOptimization, "_zero_grad_fn", _nothing),
    "schedules forgotten": (epoch, "step_schedules", _nothing),
    "schedules forgotten at the end": (fit, "step_schedules", _nothing),
    "rows at each step": (self_log.SelfLog, "should_update_logs", property(_always)),
    "no accumulation": (epoch.EpochLoop, "_should_accumulate", lambda self: False),
    "validation at each batch": (epoch.EpochLoop, "_should_check_val_fx", lambda self, fetcher: True),
    "steps not counted": (epoch.EpochLoop, "on_save_checkpoint", lambda self: {"_batches_that_stepped": 0}),
    "one epoch more": (fit.FitLoop, "done", property(lambda self: self.epoch_progress.current.processed > 2)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed(name, tmp_path, monkeypatch):
    where, attribute, fault = FAULTS[name]
    form = "plateau" if "end" in name else "dict, each step"
    work = plain({"accumulate_grad_batches": 3, "max_epochs": 2}, how=form)
    wanted = told(None, work, tmp_path / "trainer")
    assert not parted(wanted, told("reference", work, tmp_path / "right"))
    monkeypatch.setattr(where, attribute, fault)
    assert parted(wanted, told("reference", work, tmp_path / "wrong"))
