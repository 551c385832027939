"""What a newcomer writes and reads: signatures, hints for the names of others, and results that fit a terminal."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import fields
from functools import partial

import pytest
import torch
from ignite.engine import Events
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import unitrain
from unitrain import (
    Callback,
    ConfigError,
    DataError,
    DataSpec,
    Event,
    ModelCheckpoint,
    SpecError,
    TrainerConfig,
    TrainSpec,
    UnifiedTrainer,
)
from unitrain.compat import other_names

FRAMEWORKS = ("lightning", "ignite", "reference")


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


def make_spec():
    torch.manual_seed(0)
    return TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))


def loader(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(
        TensorDataset(torch.randn(12, 4, generator=generator), torch.randn(12, 1, generator=generator)), 4
    )


def make(framework, **options):
    return UnifiedTrainer(framework, **{"max_epochs": 2, "seed": 0, "enable_progress_bar": False, **options})


# --- signatures -------------------------------------------------------------------------------------------------------


def test_help_and_the_signature_show_each_option_with_its_default():
    parameters = inspect.signature(UnifiedTrainer).parameters
    assert list(parameters) == ["framework", *(one.name for one in fields(TrainerConfig))]
    assert all(parameters[one.name].default == one.default for one in fields(TrainerConfig))
    listed = UnifiedTrainer.__doc__.partition("Options:")[2]
    assert all(f"\n    {one.name}: " in listed for one in fields(TrainerConfig))


def test_a_subclass_with_options_of_its_own_keeps_its_signature():
    class Mine(UnifiedTrainer):
        def __init__(self, size):
            super().__init__("reference", max_epochs=size)

    assert list(inspect.signature(Mine).parameters) == ["size"]


@pytest.mark.parametrize("method", ["fit", "validate", "test", "predict"])
def test_best_and_last_are_explained_where_they_are_given(method):
    text = getattr(UnifiedTrainer, method).__doc__
    assert '"best"' in text
    assert '"last"' in text


def test_the_package_shows_its_own_names_alone():
    shown = {name for name in dir(unitrain) if not name.startswith("__")}
    assert shown == {name for name in unitrain.__all__ if not name.startswith("__")}
    for name in ("Any", "TYPE_CHECKING", "annotations", "import_module"):
        assert not hasattr(unitrain, name)


# --- names of others --------------------------------------------------------------------------------------------------

OPTIONS = {
    "epochs": "max_epochs=3",
    "num_epochs": "max_epochs=3",
    "n_epochs": "max_epochs=3",
    "gpus": "accelerator='gpu', devices=1",
    "lr": "TrainSpec(optimizer=",
    "batch_size": "DataLoader(dataset, batch_size=32)",
    "gradient_accumulation_steps": "accumulate_grad_batches=4",
    "logger": "loggers=[",
    "fp16": 'precision="16-mixed"',
    "optimizer": "TrainSpec(optimizer=...)",
    "max_epoch": "did you mean 'max_epochs'?",
}


@pytest.mark.parametrize(("name", "hint"), OPTIONS.items())
def test_an_option_of_another_trainer_is_answered_with_ours(framework, name, hint):
    with pytest.raises(ConfigError, match=f"unknown argument '{name}'") as caught:
        UnifiedTrainer(framework, **{name: 1})
    assert hint in caught.value.hint


def test_no_hint_stands_for_an_option_that_there_is_and_each_names_one():
    own = {one.name for one in fields(TrainerConfig)}
    assert not own & other_names.OPTIONS.keys()
    named = {hint.partition("=")[0] for hint in other_names.OPTIONS.values() if hint.partition("=")[0].isidentifier()}
    assert named <= own
    for hint in other_names.OPTIONS.values():
        if hint.partition("=")[0].isidentifier() and "[" not in hint:
            name, value = hint.split("=", 1)
            TrainerConfig(**{name: eval(value)})
    assert {*other_names.EVENTS.values()} <= {*Event.__members__}
    assert not {*other_names.EVENTS} & {*Event.__members__}


CALLS = {
    "fit": {
        "val_loader": "val_dataloaders=",
        "val_dataloader": "val_dataloaders=",
        "train_loader": "train_dataloaders=",
    },
    "validate": {"dataloader": "dataloaders=", "loader": "dataloaders=", "datamodule": "as the data"},
    "test": {"test_loader": "dataloaders=", "checkpoint": "ckpt_path="},
    "predict": {"data": "dataloaders=", "ckpt": "ckpt_path="},
}


@pytest.mark.parametrize(
    ("method", "name", "hint"), [(method, *one) for method, some in CALLS.items() for one in some.items()]
)
def test_an_argument_of_another_trainers_run_is_answered_with_ours(framework, method, name, hint):
    with pytest.raises(ConfigError, match=rf"{method}\(\) got an unknown argument '{name}'") as caught:
        getattr(make(framework), method)(make_spec(), **{name: loader()})
    assert hint in caught.value.hint


NAMES = {"EPOCH_COMPLETED": "EPOCH_END", "ITERATION_STARTED": "BATCH_START", "TRAIN_EPOCH_END": "EPOCH_END"}


@pytest.mark.parametrize(("name", "ours"), [*NAMES.items(), ("EPOCH_EN", "EPOCH_END")])
def test_an_event_of_another_framework_is_answered_with_ours(name, ours):
    with pytest.raises(AttributeError, match=f"Event has no member '{name}'.\nHint: .*{ours}"):
        getattr(Event, name)
    assert not hasattr(Event, name)


@pytest.mark.parametrize(
    ("event", "ours"),
    [
        (Events.EPOCH_COMPLETED, "EPOCH_END"),
        (Events.ITERATION_COMPLETED(every=2), "BATCH_END"),
        ("on_train_epoch_end", "EPOCH_END"),
        (3, "EPOCH_END"),
    ],
)
def test_on_answers_with_ours(framework, event, ours):
    with pytest.raises(SpecError, match=rf"Hint: trainer.on\(Event.{ours}"):
        make(framework).on(event, print)


def test_a_callback_with_lightnings_hooks_is_answered_with_ours():
    class Mine(Callback):
        def on_train_epoch_end(self, run): ...

    with pytest.raises(SpecError, match=r"Hint: def on_epoch_end\(self, run\)"):
        make("reference", callbacks=[Mine()]).fit(make_spec(), loader())


# --- evaluations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [loader(), [1], {"x": 1}, torch.ones(2), DataSpec(train=loader()), loader().dataset])
@pytest.mark.parametrize("method", ["validate", "fit"])
def test_data_in_the_place_of_the_spec_is_told(framework, method, given):
    with pytest.raises(SpecError, match=r"is data, not a spec[\s\S]*validate\(dataloaders=loader\)"):
        getattr(make(framework), method)(given)


def test_validation_after_a_fit_takes_its_data(framework, tmp_path):
    keep = ModelCheckpoint(tmp_path, monitor="val/loss")
    trainer, spec = make(framework, callbacks=[keep]), make_spec()
    result = trainer.fit(spec, loader(), loader(1))
    assert trainer.validate() == trainer.validate(spec) == {"val/loss": result.metrics["val/loss"]}
    best = trainer.validate(ckpt_path="best")
    assert best == trainer.validate(spec, loader(1), ckpt_path="best")
    assert trainer.validate(dataloaders=loader()) != best
    with pytest.raises(DataError, match="no test data was given"):
        trainer.test()


def test_a_data_spec_of_a_fit_serves_each_evaluation(framework):
    trainer = make(framework)
    trainer.fit(make_spec(), DataSpec(train=loader(), val=loader(1), test=loader(2), predict=loader(3)))
    assert trainer.validate() == trainer.validate(dataloaders=loader(1))
    assert trainer.test() == trainer.test(dataloaders=loader(2))
    assert all(map(torch.equal, trainer.predict(), trainer.predict(dataloaders=loader(3))))


def test_another_spec_does_not_take_the_data_of_a_fit(framework):
    trainer, other = make(framework), make_spec()
    trainer.fit(make_spec(), loader(), loader(1))
    for _ in range(2):
        with pytest.raises(DataError, match="no val data was given"):
            trainer.validate(other)
    with pytest.raises(DataError, match="no val data was given"):
        trainer.validate()  # of the other one, which ran last


# --- what is printed --------------------------------------------------------------------------------------------------


def test_a_result_is_a_small_table(framework, tmp_path):
    keep = ModelCheckpoint(tmp_path / ("a-long-name-" * 12), monitor="val/loss", save_last=True)
    result = make(framework, callbacks=[keep]).fit(make_spec(), loader(), loader(1))
    first, *lines = str(result).splitlines()
    assert first == f"2 epochs, 6 steps on {framework}, stopped by max_epochs"
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    last = result.history[-1]
    assert rows["val/loss"] == [f"{result.history[0]['val/loss']:.6g}", f"{last['val/loss']:.6g}"]
    assert {"metric", "train/loss", "best", "last"} <= rows.keys()
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("everything", [False, True])
def test_an_explanation_fits_a_terminal_and_shows_what_was_changed(framework, everything, capsys):
    trainer = make(framework, min_steps=2, default_root_dir="x" * 300)
    trainer.fit(make_spec(), loader())
    rows = trainer.explain(all=everything)
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 100
    named = {row.what for row in rows}
    changed = {"max_epochs", "min_steps", "seed", "enable_progress_bar", "default_root_dir"}
    assert changed | {"model", "loss", "optimizer"} <= named
    assert ("precision" in named) is everything
    assert ("explain(all=True)" in told) is not everything


def test_a_notebook_shows_an_explanation_once():
    pretty = pytest.importorskip("IPython.lib.pretty")
    rows = make("reference").explain()
    assert len(pretty.pretty(rows).splitlines()) <= 2
    result = make("reference").fit(make_spec(), loader())
    assert pretty.pretty(result) == str(result)


# --- processes --------------------------------------------------------------------------------------------------------

PROMPT = """
import torch
from torch import nn
from functools import partial
from unitrain import TrainSpec, UnifiedTrainer
class Net(nn.Linear): ...
spec = TrainSpec(model=Net(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
trainer = UnifiedTrainer("{framework}", max_epochs=1, devices=2, accelerator="cpu", enable_progress_bar=False)
try:
    trainer.fit(spec, [(torch.ones(2, 4), torch.ones(2, 1))] * 2)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("framework", ["lightning", "ignite"])
def test_several_processes_from_a_prompt_are_refused_before_any_starts(framework, tmp_path):
    command = [sys.executable, "-c", PROMPT.format(framework=framework)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.startswith("SpecError started processes import"), done.stderr
    assert "cannot be imported" in done.stdout
    assert "Hint: move the model, functions and callbacks to a file" in done.stdout
