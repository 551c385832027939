"""What the trainer does around a framework's own code, whatever its bridge: what it takes, refuses, shows and prints."""

import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Engine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from unitrain import Callback, ConfigError, Event, SpecError, TrainSpec, UnifiedTrainer, from_engine, from_step

FRAMEWORKS = ["lightning", "ignite", "reference"]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).mean()

    def test_step(self, batch, batch_idx):
        self.log("seen", 2.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader():
    return DataLoader(TensorDataset(torch.ones(6, 2)), batch_size=2)


def make(framework, *, native=True, **options):
    given = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, **options}
    return UnifiedTrainer(framework, native={"lightning": QUIET} if native else None, **given)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_train_takes_it_too_and_the_trainer_shows_it(framework):
    trainer, module = make(framework), Module()
    result = trainer.train(module, loader())
    assert (result.framework, result.step, trainer.state.step) == (framework, 3, 3)
    assert trainer.model is module
    assert trainer.native is result.native
    assert trainer.foreign_trainer.global_step == 3


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("verbose", "printed"), [(None, True), (True, True), (False, False)])
def test_verbose_prints_a_table_as_lightning_does(framework, verbose, printed, capsys):
    found = make(framework).test(Module(), loader(), verbose=verbose)
    assert found == {"seen": 2.0}
    assert ("Test metric" in capsys.readouterr().out) is printed


@pytest.mark.parametrize(("verbose", "printed"), [(None, False), (True, True), (False, False)])
def test_verbose_for_what_prints_nothing_by_itself(verbose, printed, capsys):
    spec = TrainSpec(model=nn.Linear(2, 1), loss=nn.MSELoss(), optimizer=torch.optim.SGD)
    data = DataLoader(TensorDataset(torch.ones(6, 2), torch.ones(6, 1)), batch_size=2)
    make("reference", native=False).test(spec, data, verbose=verbose)
    assert ("test/loss" in capsys.readouterr().out) is printed

    def step(engine, batch):
        engine.state.metrics["seen"] = 2.0

    assert make("lightning", native=False).test(from_step(step), loader(), verbose=verbose) == {"seen": 2.0}
    assert ("seen" in capsys.readouterr().out) is printed


def test_without_code_what_ran_last_is_evaluated_and_a_spec_after_it_is_again(tmp_path):
    options = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "default_root_dir": tmp_path}
    quiet = {"logger": False, "enable_model_summary": False}  # the checkpoint is what Lightning takes then
    trainer = UnifiedTrainer("ignite", native={"lightning": quiet}, **options)
    with pytest.raises(SpecError, match="got nothing"):
        trainer.test(dataloaders=loader())
    trainer.fit(Module(), loader())
    with pytest.warns(UserWarning, match="was called without a model"):  # as Lightning says
        assert trainer.test(dataloaders=loader(), verbose=False) == {"seen": 2.0}
    spec = TrainSpec(model=nn.Linear(2, 1), loss=nn.MSELoss(), optimizer=torch.optim.SGD)
    data = DataLoader(TensorDataset(torch.ones(6, 2), torch.ones(6, 1)), batch_size=2)
    assert list(trainer.test(spec, data)) == ["test/loss"]
    assert list(trainer.test(dataloaders=data)) == ["test/loss"]


class Own(Callback):
    """Listens to unitrain's events, which such a run has not."""


CODE = {
    "module": Module,
    "engine": lambda: Engine(lambda *_: None),
    "program": lambda: from_engine(Engine(lambda *_: None)),
}


@pytest.mark.parametrize("name", CODE)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_would_not_be_called_is_refused(framework, name):
    code = CODE[name]
    with pytest.raises(ConfigError, match="Own would never be called"):
        make(framework, callbacks=[Own()]).fit(code(), loader())
    trainer = make(framework)

    @trainer.on(Event.EPOCH_END)
    def report(run):
        raise AssertionError

    with pytest.raises(ConfigError, match=r"report would never be called[\s\S]*Hint: use callbacks or handlers of"):
        trainer.fit(code(), loader())


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
def test_an_object_that_was_built_before_is_not_left_aside(framework):
    trainer = make(framework, native=False)
    trainer.create_trainer()
    with pytest.raises(ConfigError, match=r"create_trainer\(\) built a"):
        trainer.fit(Module(), loader())


def test_explain_is_about_specs():
    with pytest.raises(SpecError, match="explains a TrainSpec; got a Module"):
        make("ignite").explain(Module())


def test_what_is_no_engine_and_no_function():
    with pytest.raises(SpecError, match=r"from_engine\(\) takes an ignite.engine.Engine"):
        from_engine(loader())
    with pytest.raises(SpecError, match=r"from_step\(\) takes a function"):
        from_step(3)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_within_a_run_of_the_same_trainer_is_refused(framework):
    trainer, module = make(framework), Module()
    module.on_train_start = lambda: trainer.fit(Module(), loader())
    with pytest.raises(ConfigError, match="already running"):
        trainer.fit(module, loader())


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_stop_ends_the_run_after_the_epoch(framework):
    trainer, module = make(framework, max_epochs=5), Module()
    module.on_train_epoch_start = trainer.stop
    assert trainer.fit(module, loader()).step <= 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(("given", "made"), [({"loggers": []}, False), ({"loggers": ()}, False), ({}, True)])
def test_an_empty_list_of_trackers_means_none(framework, given, made, tmp_path):
    trainer = UnifiedTrainer(
        framework, max_epochs=1, accelerator="cpu", enable_progress_bar=False, default_root_dir=tmp_path, **given
    )
    trainer.fit(Module(), loader())
    assert (tmp_path / "lightning_logs").exists() is made
