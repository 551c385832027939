"""A trainer's arguments, results and refusals where an Ignite program runs."""

from __future__ import annotations

import gc
import weakref
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Engine, Events, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver, EarlyStopping, HandlersTimeProfiler, ModelCheckpoint
from torch import nn

from tests.bridges.ignite_runs import Program, run_as, same
from tests.bridges.written_program import EVERYWHERE, Written, alike, told
from unitrain import UnifiedTrainer
from unitrain.errors import CheckpointError, ConfigError, SpecError, UnsupportedFeatureError
from unitrain.interop.ignite_programs import from_engine, from_step
from unitrain_bridges.ignite import bridge
from unitrain_bridges.ignite.engine_run import EngineRun
from unitrain_bridges.ignite.foreign_program import EngineProgram
from unitrain_bridges.ignite.outcome import Record

# --- results ----------------------------------------------------------------------------------------------------------


def test_the_result_tells_what_was_reached():
    def run(framework, written):
        trainer = UnifiedTrainer(framework, max_epochs=3)
        result = trainer.fit(written.trainer, written.loader)
        assert result.framework == framework
        assert trainer.foreign_trainer is written.trainer
        return told(result)

    held = alike(run)
    assert held["epoch"] == 2
    assert held["step"] == 12
    assert held["stopped_by"] == "max_epochs"
    assert [row["epoch"] for row in held["history"]] == [0, 1, 2]
    assert [row["step"] for row in held["history"]] == [4, 8, 12]
    assert held["history"][-1]["loss"] == held["metrics"]["loss"]


def test_the_native_object_is_the_real_one():
    for framework, kind in (("ignite", Engine), ("lightning", pl.Trainer), ("reference", type(None))):
        trainer, written = UnifiedTrainer(framework, max_epochs=1), Written()
        assert type(trainer.fit(written.trainer, written.loader).native) is kind
        assert type(trainer.native) is kind


def test_a_step_alone_is_a_program():
    def run(framework, written):
        return told(UnifiedTrainer(framework, max_epochs=2).fit(from_step(written.step), written.loader))

    assert alike(run)["step"] == 8


def test_iterations_count_if_no_optimizer_is_known():
    def run(framework, written):
        program = from_engine(written.trainer, max_iters=6, optimizers=[])
        return told(UnifiedTrainer(framework).fit(program, written.loader))

    held = alike(run)
    assert (held["step"], held["stopped_by"]) == (6, "max_steps")


@pytest.mark.parametrize(("patience", "reason"), [(1, "early_stopping"), (None, "user")])
def test_the_result_tells_why_it_stopped(patience, reason):
    def run(framework, written):
        engine, evaluator = written.trainer, written.evaluator
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(written.loader))
        if patience is None:
            engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), engine.terminate)
        else:
            evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(patience, lambda e: 0.0, engine))
        return told(UnifiedTrainer(framework, max_epochs=5).fit(engine, written.loader))

    held = alike(run)
    assert (held["stopped_by"], held["epoch"]) == (reason, 1)


def test_stop_is_terminate():
    def run(framework, written):
        trainer = UnifiedTrainer(framework, max_epochs=5)
        written.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=6), trainer.stop)
        return told(trainer.fit(written.trainer, written.loader))

    assert alike(run)["step"] == 6


def test_evaluators_run_in_a_loop_of_evaluation():
    def run(framework, written):
        trainer = UnifiedTrainer(framework)
        found = trainer.validate(written.evaluator, written.loader), trainer.test(written.evaluator, written.loader)
        outputs = trainer.predict(written.evaluator, written.loader)
        assert framework != "lightning" or trainer.native.state.fn == "validate"
        assert torch.is_grad_enabled()
        return *found, [[part.tolist() for part in one] for one in outputs]

    first, second, outputs = alike(run)
    assert first == second
    assert len(outputs) == 4


def test_an_evaluator_keeps_its_own_gradients():
    def run(framework, written):
        def step(engine, batch):
            return torch.is_grad_enabled()

        return UnifiedTrainer(framework).predict(Engine(step), written.loader)

    assert alike(run) == [True] * 4


def test_a_checkpoint_holds_what_the_program_refers_to(tmp_path):
    for framework in EVERYWHERE:
        trainer, written = UnifiedTrainer(framework, max_epochs=2), Written()
        trainer.fit(written.trainer, written.loader)
        trainer.save_checkpoint(tmp_path / "all.pt")
        held = torch.load(tmp_path / "all.pt")
        assert set(held) == {"model_net", "model_head", "optimizer", "trainer"}
        assert held["trainer"] == {"epoch_length": 4, "iteration": 8, "max_epochs": 2}
        again = Written()
        Checkpoint.load_objects({"model_net": again.net, "optimizer": again.optimizer, "trainer": again.trainer}, held)
        assert torch.equal(again.net.weight, written.net.weight)


def test_a_checkpoint_without_a_module_is_refused(tmp_path):
    trainer, written = UnifiedTrainer("reference", max_epochs=1), Written()
    trainer.fit(from_engine(written.trainer, modules=[]), written.loader)
    with pytest.raises(CheckpointError, match="modules="):
        trainer.save_checkpoint(tmp_path / "none.pt")


def test_files_of_ignites_own_checkpoints_are_the_same(tmp_path):
    def run(framework, written):
        folder = tmp_path / framework
        saved = {"net": written.net, "optimizer": written.optimizer, "trainer": written.trainer}
        best = Checkpoint(
            saved, DiskSaver(folder, create_dir=True), n_saved=2, score_function=lambda e: -e.state.metrics["loss"]
        )
        written.trainer.add_event_handler(Events.EPOCH_COMPLETED, best)
        last = ModelCheckpoint(folder, "last", n_saved=1, require_empty=False)
        written.trainer.add_event_handler(Events.ITERATION_COMPLETED(every=3), last, {"net": written.net})
        UnifiedTrainer(framework, max_epochs=3).fit(written.trainer, written.loader)
        files = {path.name: torch.load(path) for path in sorted(folder.iterdir())}
        return {name: sorted(held) for name, held in files.items()}

    assert len(alike(run)) == 3


def test_an_engine_with_a_loop_of_its_own_is_refused():
    class Own(Engine):
        def _internal_run(self):
            return super()._internal_run()

    written = Written()
    with pytest.raises(UnsupportedFeatureError, match="Own overrides _internal_run"):
        UnifiedTrainer("reference").fit(Own(written.step), written.loader)
    assert UnifiedTrainer("ignite").fit(Own(written.step), written.loader).step == 4


def test_an_interrupted_run_goes_on_where_it_began():
    written = Written()
    written.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: e.interrupt())
    result = UnifiedTrainer("lightning", max_epochs=2).fit(written.trainer, written.loader)
    assert (result.step, result.stopped_by) == (3, "user")
    with pytest.raises(UnsupportedFeatureError, match="interrupted on 'lightning'"):
        written.trainer.run(written.loader, max_epochs=2)
    assert UnifiedTrainer("reference", max_epochs=2).fit(written.trainer, written.loader).step == 5


@pytest.mark.parametrize("framework", [None, *EVERYWHERE])
def test_after_an_interrupt_new_data_is_read_from_its_start(framework):
    def fit(engine, data):
        if framework is None:
            engine.run(data, max_epochs=1)
        else:
            UnifiedTrainer(framework, max_epochs=1).fit(from_engine(engine), data)

    seen = []
    engine = Engine(lambda engine, batch: seen.append(batch))
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen[-1] == 2 and engine.interrupt())
    fit(engine, [1, 2, 3, 4])
    engine.state.max_epochs = None  # Ignite's own way to start over
    fit(engine, [10, 20, 30])
    assert seen == [1, 2, 10, 20, 30]


def test_an_iterator_that_is_kept_after_an_interrupt_is_noticed(monkeypatch):
    never = property(lambda self: False, lambda self, value: None)
    monkeypatch.setattr(EngineRun, "_interrupted", never, raising=False)
    with pytest.raises(AssertionError):
        test_after_an_interrupt_new_data_is_read_from_its_start("lightning")


@pytest.mark.parametrize("framework", EVERYWHERE)
def test_no_handler_of_the_bridge_is_seen(framework):
    def seen(run):
        written, profiler, listed = Written(), HandlersTimeProfiler(), []
        profiler.attach(written.trainer)
        written.trainer.add_event_handler(
            Events.STARTED,
            lambda engine: listed.extend((event, len(own)) for event, own in engine._event_handlers.items()),
        )
        run(written)
        return listed, [row[:2] for row in profiler.get_results()]

    wanted = seen(lambda written: written.trainer.run(written.loader, max_epochs=1))
    assert wanted[0]
    assert wanted == seen(
        lambda written: UnifiedTrainer(framework, max_epochs=1).fit(from_engine(written.trainer), written.loader)
    )


def test_a_handler_of_the_bridge_is_noticed(monkeypatch):
    def keeping(self, original=Record.keeping):
        self._engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch_completed)
        return original(self)

    monkeypatch.setattr(Record, "keeping", keeping)
    with pytest.raises(AssertionError):
        test_no_handler_of_the_bridge_is_seen("reference")


def fit_by_a_trainer(framework, engine):
    UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False).fit(from_engine(engine), [1, 2])


def run_by_a_script(framework, engine):
    engine.run([1, 2])


@pytest.mark.parametrize("fit", [fit_by_a_trainer, run_by_a_script])
@pytest.mark.parametrize("framework", EVERYWHERE)
def test_an_engine_is_freed_with_its_last_reference(framework, fit, monkeypatch):
    monkeypatch.setattr(bridge, "trains", lambda engine: True)
    with bridge.IgniteBridge().redirected(framework):
        engine = Engine(lambda engine, batch: None)
        fit(framework, engine)
        kept = weakref.ref(engine)
        gc.collect()
        gc.disable()
        try:
            del engine
            assert kept() is None
        finally:
            gc.enable()


def test_an_engine_that_a_program_keeps_is_noticed(monkeypatch):
    kept = []

    def release(self):
        kept.append(self)

    monkeypatch.setattr(EngineProgram, "release", release)
    with pytest.raises(AssertionError):
        test_an_engine_is_freed_with_its_last_reference("lightning", fit_by_a_trainer, monkeypatch)


def test_a_legacy_engine_is_not_run_within_itself():
    class Legacy(Engine):
        interrupt_resume_enabled = False

    written = Written()
    engine = Legacy(written.step)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.run(written.loader, max_epochs=3))
    with pytest.raises(UnsupportedFeatureError, match="within a run of the same engine"):
        UnifiedTrainer("lightning", max_epochs=2).fit(engine, written.loader)
    assert "_internal_run_legacy" not in vars(engine)


@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization")
def test_lightnings_checkpoints_hold_the_program(tmp_path):
    kept = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    written = Written()
    trainer = UnifiedTrainer("lightning", max_epochs=2, callbacks=[kept], default_root_dir=tmp_path)
    trainer.fit(written.trainer, written.loader)
    files = sorted(tmp_path.glob("*.ckpt"))
    held = torch.load(files[-1], weights_only=False)
    assert [path.stem for path in files] == ["epoch=0-step=3", "epoch=1-step=6"]
    assert set(held["state_dict"]) == {
        f"model.{name}.{part}" for name in ("net", "head") for part in ("weight", "bias")
    }
    assert len(held["optimizer_states"]) == 1


def test_a_run_that_ignite_interrupted_is_refused():
    written = Written()
    written.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: e.interrupt())
    written.trainer.run(written.loader, max_epochs=2)
    with pytest.raises(UnsupportedFeatureError, match="interrupted in Ignite"):
        UnifiedTrainer("lightning", max_epochs=2).fit(written.trainer, written.loader)


def test_lightning_can_end_the_run():
    class Stops(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.global_step == 6

    heard, written = [], Written()
    for event in (Events.TERMINATE, Events.COMPLETED, Events.EPOCH_COMPLETED):
        written.trainer.add_event_handler(event, partial(heard.append, event.name))
    result = UnifiedTrainer("lightning", max_epochs=5, callbacks=[Stops()]).fit(written.trainer, written.loader)
    assert (result.step, result.stopped_by) == (6, "user")
    assert heard == ["EPOCH_COMPLETED", "TERMINATE", "COMPLETED"]


def test_an_error_of_lightning_reaches_the_engines_handlers():
    class Fails(pl.Callback):
        def on_train_batch_end(self, *args):
            raise LookupError("on purpose")

    heard, written = [], Written()
    written.trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda engine, error: heard.append(str(error)))
    with pytest.raises(LookupError, match="on purpose"):
        UnifiedTrainer("lightning", max_epochs=5, callbacks=[Fails()]).fit(written.trainer, written.loader)
    assert heard == ["on purpose"]


def test_nothing_is_changed_behind_the_users_back():
    written = Written()
    written.net.eval()
    written.net.weight.grad = torch.ones_like(written.net.weight)
    held = written.net.weight.grad
    engine = Engine(lambda engine, batch: (written.net(batch[0]), written.optimizer))
    UnifiedTrainer("lightning", max_epochs=1).fit(engine, written.loader)
    assert written.net.weight.grad is held
    assert not written.net.training
    assert written.head.training


def test_a_fit_within_a_fit_is_another_trainers():
    written, inner = Written(), Written()
    written.trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda: UnifiedTrainer("reference", max_epochs=1).fit(inner.trainer, inner.loader),
    )
    program = from_engine(written.trainer, optimizers=[written.optimizer])
    assert UnifiedTrainer("lightning", max_epochs=2).fit(program, written.loader).step == 8
    assert inner.trainer.state.iteration == 4


def test_supervised_trainers_are_programs_too():
    def run(framework, written):
        net = nn.Sequential(written.net, nn.ReLU(), written.head)
        engine = create_supervised_trainer(net, written.optimizer, nn.CrossEntropyLoss())
        trainer = UnifiedTrainer(framework, max_epochs=2)
        return told(trainer.fit(engine, written.loader))

    assert alike(run)["step"] == 8


def test_a_lost_draw_would_be_noticed():
    def drawn(program):
        program.run(program.engine(), max_epochs=2)

    def extra(program):
        drawn(program)
        torch.rand(())

    assert same(run_as(drawn, None), run_as(extra, "reference"))
    assert isinstance(Program(None).log.events, list)


def test_errors_are_of_the_right_kind():
    written = Written()
    with pytest.raises(ConfigError):
        UnifiedTrainer("reference").fit(written.trainer, written.loader, written.loader)
    with pytest.raises(SpecError):
        UnifiedTrainer("reference").validate(written.trainer, written.loader)
