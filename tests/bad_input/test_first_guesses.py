"""What someone tries who knows another library: refused with the spelling that is meant, on every backend."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from ignite.handlers import TerminateOnNan
from torch import nn
from torch.optim.lr_scheduler import StepLR

from tests.backends import FRAMEWORKS
from unitrain import (
    EMA,
    Callback,
    CheckpointError,
    ConfigError,
    CSVLogger,
    DataError,
    EarlyStopping,
    Event,
    FitResult,
    LRFinder,
    ModelCheckpoint,
    SpecError,
    TrainSpec,
    UnifiedTrainer,
    UnitrainError,
    load_weights,
    metric,
)


@pytest.mark.parametrize("mistake", ["predict", "validate", "test", "fit"])
def test_a_call_with_data_in_place_of_the_spec_keeps_the_last_run(make_trainer, make_spec, make_batches, mistake):
    trainer, spec, batches = make_trainer(), make_spec(), make_batches()
    trainer.fit(spec, batches, batches)
    before = trainer.validate()
    with pytest.raises(SpecError, match=r"which is data, not a spec[\s\S]*Hint: .*validate\(dataloaders=loader\)"):
        getattr(trainer, mistake)(batches)
    assert trainer.validate() == before
    assert len(trainer.predict(dataloaders=batches)) == len(batches)


def test_means_are_float32_whatever_the_default_type(make_trainer, make_spec):
    """With two batches of 3 and 1 samples: the float64 losses are rounded, weighted and added up in float32."""
    values = [torch.tensor([[0.1], [0.2], [0.7]]), torch.tensor([[1 / 3]])]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model = nn.Linear(1, 1)
        spec = make_spec(model=model, loss=lambda output, target: target.mean() + 0 * output.sum())
        batches = [(one.double(), one.double() ** 2) for one in values]
        found = make_trainer(max_epochs=1).fit(spec, batches, batches).metrics
    finally:
        torch.set_default_dtype(before)
    first, second = (target.mean().float() for _, target in batches)
    expected = ((first * 3 + second * 1) / 4).item()
    assert found == {"val/loss": expected, "train/loss": expected}


def test_weights_saved_by_torch_alone_are_read(make_trainer, make_spec, make_batches, tmp_path):
    trained = make_spec()
    path = tmp_path / "weights.pt"
    torch.save(trained.model.state_dict(), path)
    assert {name: value.tolist() for name, value in load_weights(path).items()} == {
        name: value.tolist() for name, value in trained.model.state_dict().items()
    }
    trainer = make_trainer()
    expected, found = (
        trainer.predict(one, make_batches(), path if one is not trained else None) for one in (trained, make_spec())
    )
    assert all(map(torch.equal, expected, found))


def test_a_file_without_weights_says_what_it_has(tmp_path):
    torch.save({"model": {"w": torch.ones(1)}, "epoch": 3}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"contains no state_dict; it has 'model', 'epoch'[\s\S]*Hint: "):
        load_weights(tmp_path / "x.pt")


def yields(run):
    yield run


async def waits(run):
    pass


async def waits_and_yields(run):
    yield run


@pytest.mark.parametrize("handler", [yields, waits, waits_and_yields, partial(yields)], ids=lambda one: repr(one)[:20])
@pytest.mark.parametrize("of_a_callback", [False, True], ids=["handler", "callback"])
def test_a_handler_that_a_call_does_not_run_is_refused(framework, make_spec, make_batches, handler, of_a_callback):
    class Own(Callback):
        on_epoch_end = staticmethod(handler)

    trainer = UnifiedTrainer(framework, max_epochs=1, callbacks=[Own()] if of_a_callback else [])
    call = partial(trainer.fit, make_spec(), make_batches()) if of_a_callback else trainer.on(Event.EPOCH_END)
    with pytest.raises(SpecError, match=r"must be a plain function[\s\S]*without async and yield"):
        call(*(() if of_a_callback else (handler,)))


@pytest.mark.parametrize("given", [True, 3, ModelCheckpoint("kept")], ids=["bool", "number", "callback"])
def test_what_is_no_path_is_refused_by_name(make_trainer, make_spec, make_batches, given, refused):
    trainer, spec = make_trainer(), make_spec()
    hint = ".best_model_path" if isinstance(given, ModelCheckpoint) else "last.ckpt"
    with refused(trainer, spec, ConfigError, "ckpt_path must be a str or a Path", hint):
        trainer.fit(spec, make_batches(), ckpt_path=given)


@pytest.mark.parametrize(
    "call",
    [lambda: load_weights(None), lambda: ModelCheckpoint(3), lambda: CSVLogger(None)],
    ids=["load_weights", "ModelCheckpoint", "CSVLogger"],
)
def test_no_path_is_refused_wherever_one_is_taken(call):
    with pytest.raises(UnitrainError, match=r"must be a str or a Path; got[\s\S]*Hint: "):
        call()


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (lambda model: torch.optim.SGD(model.parameters(), lr=0.1), "list of parameters of the model"),
        ({"0": lambda model: torch.optim.SGD(model.weight, lr=0.1)}, "list of parameters of the submodule '0'"),
    ],
    ids=["single", "named"],
)
def test_a_function_of_the_model_in_place_of_its_parameters(
    make_trainer, make_spec, make_batches, refused, optimizer, says
):
    several = {"automatic_optimization": False, "training_step": lambda run, batch: None, "loss": None}
    manual = several if isinstance(optimizer, dict) else {}
    spec, trainer = make_spec(model=nn.Sequential(nn.Linear(4, 1)), optimizer=optimizer, **manual), make_trainer()
    with refused(trainer, spec, SpecError, "could not be created: 'list' object has no attribute", says):
        trainer.fit(spec, make_batches())


def test_sparse_gradients_that_are_clipped(make_trainer):
    for algorithm in ("norm", "value"):
        spec = TrainSpec(
            model=nn.EmbeddingBag(5, 1, sparse=True), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1)
        )
        with pytest.raises(SpecError, match=r"^sparse gradients cannot be clipped\.\nHint: "):
            make_trainer(gradient_clip_val=0.1, gradient_clip_algorithm=algorithm).fit(
                spec, [(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 1))]
            )


class Once:
    """An iterator with a length, as ``iter(loader)`` is."""

    def __init__(self, batches):
        self._left, self._length = iter(batches), len(batches)

    def __len__(self):
        return self._length

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._left)


@pytest.mark.parametrize("stage", ["train", "val"])
def test_an_iterator_with_a_length_is_used_up_after_an_epoch(make_trainer, make_spec, make_batches, framework, stage):
    data = (Once(make_batches()),) if stage == "train" else (make_batches(), Once(make_batches()))
    says = "ended after 0 of" if framework == "reference" else "is an exhausted iterator"
    with pytest.raises(DataError, match=rf"the {stage} loader {says}[\s\S]*Hint: "):
        make_trainer().fit(make_spec(), *data)


def test_ignites_handler_has_a_namesake(make_trainer, make_spec, make_batches, refused):
    trainer, spec = make_trainer(callbacks=[]), make_spec(callbacks=[TerminateOnNan()])
    with pytest.raises((UnitrainError, NotImplementedError), match=r"Hint: unitrain\.TerminateOnNaN"):
        trainer.fit(spec, make_batches())


def test_a_file_where_the_folder_must_be(make_trainer, make_spec, make_batches, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(CheckpointError, match=r"Hint: there is a file in place of the folder"):
        make_trainer(callbacks=[ModelCheckpoint(tmp_path / "kept")]).fit(make_spec(), make_batches())
    assert Path(tmp_path / "kept").read_text() == "mine"


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda run: run.current_epoch, "the run has no attribute 'current_epoch'.\nHint: run.state.epoch"),
        (lambda run: run.log_dict, "Hint: run.log(name, value) for each value"),
        (lambda run: run.state.iteration, "Hint: state.batch"),
        (lambda run: run.state.metric, "Hint: did you mean 'metrics'?"),
        (lambda run: run._secret, "the run has no attribute '_secret'."),
    ],
)
def test_attributes_of_other_libraries_in_a_handler(make_trainer, make_spec, make_batches, read, says):
    trainer = make_trainer()
    trainer.on(Event.BATCH_END, read)
    with pytest.raises(AttributeError) as caught:
        trainer.fit(make_spec(), make_batches())
    assert says in str(caught.value)


def test_a_run_shows_where_it_is(make_trainer, make_spec, make_batches):
    trainer, seen = make_trainer(max_epochs=1), []
    trainer.on(Event.FIT_END, lambda run: seen.append(repr(run)))
    trainer.fit(make_spec(), make_batches(2))
    assert seen == ["<run at epoch=0, step=2, batch=2>"]


def test_attributes_of_other_trainers_and_results():
    for framework in FRAMEWORKS:
        trainer = UnifiedTrainer(framework)
        for name, says in {"evaluate": "trainer.validate(spec, loader)", "run": "trainer.fit", "fitt": "'fit'"}.items():
            assert not hasattr(trainer, name)
            with pytest.raises(AttributeError) as caught:
                getattr(trainer, name)
            assert says in str(caught.value)
    result = FitResult(metrics={}, history=[], epoch=0, step=0, stopped_by="user", framework="ignite", native=None)
    with pytest.raises(AttributeError, match=r"Hint: spec\.model, which was trained in place"):
        _ = result.model


HINTS = {
    "callback": (lambda: EarlyStopping("val/loss", patients=3), "did you mean 'patience'?"),
    "checkpoint": (lambda: ModelCheckpoint("kept", save_weights_only=True), "load_weights"),
    "ema": (lambda: EMA(momentum=0.1), "decay=0.999"),
    "logger": (lambda: CSVLogger("runs", nam="x"), "did you mean 'name'?"),
    "finder": (lambda: LRFinder(min_lrs=0.1), "did you mean"),
    "no callbacks": (lambda: UnifiedTrainer("ignite", callbacks=None), "an empty list, [], means none."),
    "no loggers": (lambda: UnifiedTrainer("ignite", loggers=False), "an empty list, [], means none."),
    "set": (lambda: UnifiedTrainer("ignite", callbacks={EMA()}), "make a list of it: list(...)"),
    "mapping": (lambda: UnifiedTrainer("ignite", callbacks={"ema": EMA()}), "list(mapping.values())"),
    "accumulation": (
        lambda: UnifiedTrainer("ignite", accumulate_grad_batches={0: 2}),
        "callbacks=[GradientAccumulationSchedule({0: 2})]",
    ),
    "loss": (lambda: TrainSpec(model=nn.Linear(1, 1), criterion=nn.MSELoss()), "loss=nn.CrossEntropyLoss()"),
    "rate": (lambda: TrainSpec(model=nn.Linear(1, 1), lr=0.1), "optimizer=partial(torch.optim.AdamW, lr=1e-3)"),
    "seed": (lambda: TrainSpec(model=nn.Linear(1, 1), seed=0), "UnifiedTrainer(seed=...)"),
    "schedule": (
        lambda: TrainSpec(model=nn.Linear(1, 1), lr_scheduler={"scheduler": partial(StepLR, step_size=1)}),
        "LRSchedule(factory, interval=",
    ),
    "metric": (lambda: metric("acc", num_classes=3), 'metric("accuracy", num_classes=)'),
    "resume": (lambda: UnifiedTrainer("ignite").fit(None, resume_from="x.ckpt"), 'ckpt_path="last"'),
    "step": (lambda: UnifiedTrainer("ignite", max_epochs=1).fit(lambda engine, batch: 1, []), "from_step(function)"),
}


@pytest.mark.parametrize("case", HINTS)
def test_the_hint_names_what_was_meant(case):
    call, says = HINTS[case]
    with pytest.raises(UnitrainError) as caught:
        call()
    assert says in caught.value.hint


@pytest.mark.parametrize(
    ("monitor", "data", "hint"),
    [
        ("loss", 1, "did you mean 'val/loss'?"),
        ("loss", 0, "did you mean 'train/loss'?"),
        ("val/loss", 2, "did you mean 'val/a/loss'?"),
        ("acc", 1, 'TrainSpec(metrics={"acc": ...}) measures "val/acc"'),
    ],
)
def test_an_unknown_monitor_is_found_by_its_last_part(
    make_trainer, make_spec, make_batches, refused, monitor, data, hint
):
    trainer, spec = make_trainer(callbacks=[EarlyStopping(monitor)]), make_spec()
    val = [None, make_batches(), {"a": make_batches(), "b": make_batches()}][data]
    with refused(trainer, spec, ConfigError, f"no metric named {monitor!r} is logged", hint):
        trainer.fit(spec, make_batches(), val)


def test_an_error_within_a_property_is_told_as_it_is():
    class Own(UnifiedTrainer):
        @property
        def answer(self):
            return None.nothing_here

    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'nothing_here'"):
        _ = Own("reference").answer
