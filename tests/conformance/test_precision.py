"""What a precision does, seen from outside: dtypes, skipped steps, what is left behind, what is refused."""

from functools import partial
from itertools import pairwise

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from unitrain import ConfigError, Event, TrainSpec, UnifiedTrainer
from unitrain.testing import cases_precision
from unitrain.testing.cases import spec
from unitrain.testing.conformance import ALL, TABLES, reference
from unitrain.testing.models import loader

FRAMEWORKS = ("reference", "ignite", "lightning")
DTYPES = {
    # precision: (weights, what the model returns, what is made within the forward pass)
    "32-true": (torch.float32, torch.float32, torch.float32),
    "64-true": (torch.float64, torch.float64, torch.float64),
    "bf16-true": (torch.bfloat16, torch.bfloat16, torch.bfloat16),
    "16-true": (torch.float16, torch.float16, torch.float16),
    "bf16-mixed": (torch.float32, torch.bfloat16, torch.float32),
    "16-mixed": (torch.float32, torch.float16, torch.float32),
    32: (torch.float32, torch.float32, torch.float32),
    "64": (torch.float64, torch.float64, torch.float64),
    16: (torch.float32, torch.float16, torch.float32),
    "bf16": (torch.float32, torch.bfloat16, torch.float32),
}


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    return request.param


class Seen(nn.Module):
    """Notes the dtypes it meets."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(36, 5)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.inputs, self.outputs, self.made = set(), set(), set()

    def forward(self, inputs):
        output = self.layer(inputs)
        self.inputs.add(inputs.dtype)
        self.outputs.add(output.dtype)
        self.made.add(torch.ones(()).dtype)
        return output


def trainer_of(framework, **options):
    return UnifiedTrainer(framework, **{"max_epochs": 1, "seed": 0, "enable_progress_bar": False, **options})


@pytest.mark.parametrize("precision", DTYPES)
def test_every_stage_runs_in_the_precision_and_nothing_else_does(framework, precision):
    weights, outputs, made = DTYPES[precision]
    around, model = set(), Seen()
    note = lambda: around.add((torch.ones(()).dtype, torch.is_autocast_enabled("cpu")))  # noqa: E731
    seen = TrainSpec(
        model=model,
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        metrics={"own": lambda output, target: (note(), output.float().mean())[1]},
    )
    trainer = trainer_of(framework, precision=precision)
    for event in Event:
        trainer.on(event, note)
    trainer.fit(seen, loader(), loader())
    trainer.test(seen, loader())
    predictions = trainer.predict(seen, loader())
    assert {one.dtype for one in model.parameters()} == {weights}
    assert model.count.dtype == torch.long
    assert (model.inputs, model.outputs, model.made) == ({weights}, {outputs}, {made})
    assert {one.dtype for one in predictions} == {outputs}
    assert around == {(torch.float32, False)}
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("precision", ["64-true", "16-true", "bf16-mixed"])
@pytest.mark.parametrize("manual", [False, True])
def test_an_error_leaves_torch_as_it_was(framework, precision, manual):
    def fail(_model, _batch):
        raise ZeroDivisionError

    changes = {"automatic_optimization": False} if manual else {}
    with pytest.raises(ZeroDivisionError):
        trainer_of(framework, precision=precision).fit(spec(training_step=fail, **changes), loader())
    assert torch.get_default_dtype() == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_handlers_within_a_manual_step_run_outside_of_the_precision(framework):
    seen = []

    def step(run, batch):
        inside = torch.is_autocast_enabled("cpu")
        loss = nn.functional.cross_entropy(run.model(batch[0]), batch[1])
        run.backward(loss)
        run.step()
        seen.append((inside, torch.is_autocast_enabled("cpu")))
        return loss

    trainer = trainer_of(framework, precision="bf16-mixed")
    for event in (Event.BACKWARD_END, Event.OPTIMIZER_STEP):
        trainer.on(event, lambda: seen.append(torch.is_autocast_enabled("cpu")))
    trainer.fit(spec(training_step=step, automatic_optimization=False, metrics=None), loader())
    assert seen[:3] == [False, False, (True, True)]


def test_a_skipped_step_changes_no_weight_and_counts(framework):
    trainer = trainer_of(framework, precision="16-mixed", max_steps=3)
    weights, scales, rates = [], [], []
    trainer.on(Event.BACKWARD_END(once=2), cases_precision._poison)

    def note(run):
        weights.append([one.detach().clone() for one in run.model.parameters()])
        scales.append(run.scaler.get_scale())
        rates.append(run.optimizers["optimizer"].param_groups[0]["lr"])

    trainer.on(Event.OPTIMIZER_STEP, note)
    result = trainer.fit(spec("mlp", "sgd", lr_scheduler=cases_precision._STEP), loader())
    same = [all(map(torch.equal, one, other)) for one, other in pairwise(weights)]
    assert same == [True, False]
    assert scales == [65536.0, 32768.0, 32768.0]
    assert rates[2] == pytest.approx(0.8 * 0.05)
    assert result.step == 3


def test_a_step_skipped_at_first_gives_no_warning_about_the_scheduler(framework):
    trainer = trainer_of(framework, precision="16-mixed", max_steps=2)
    trainer.on(Event.BACKWARD_END(once=1), cases_precision._poison)
    assert trainer.fit(spec(schedule="step"), loader()).step == 2


def test_only_16_mixed_has_a_scaler(framework):
    seen = {}
    for precision in cases_precision.PRECISIONS:
        trainer = trainer_of(framework, precision=precision, max_steps=1)
        trainer.on(Event.FIT_START, lambda run, precision=precision: seen.update({precision: run.scaler}))
        trainer.fit(spec("mlp", "sgd"), loader())
    assert {precision for precision, scaler in seen.items() if scaler is not None} == {"16-mixed"}


def test_an_optimizer_without_gradients_is_stepped_without_the_scaler(framework):
    def step(run, batch):
        loss = nn.functional.cross_entropy(run.model(batch[0]), batch[1])
        run.step()
        run.backward(loss)
        run.step()
        return loss

    trainer = trainer_of(framework, precision="16-mixed", gradient_clip_val=0.1)
    assert trainer.fit(spec(training_step=step, automatic_optimization=False, metrics=None), loader()).step == 6


def test_lbfgs_with_a_scaled_loss_is_refused(framework):
    model = spec("mlp", "lbfgs")
    before = [one.clone() for one in model.model.parameters()]
    with pytest.raises(ConfigError, match=r"16-mixed.*\n.*bf16-mixed"):
        trainer_of(framework, precision="16-mixed").fit(model, loader())
    assert all(map(torch.equal, before, model.model.parameters()))


def test_lightning_shows_its_own_plugin():
    for precision, name in {"16-mixed": "MixedPrecision", "bf16-true": "HalfPrecision"}.items():
        native = trainer_of("lightning", precision=precision).create_trainer()
        assert native.precision == precision
        assert isinstance(native.precision_plugin, getattr(pl.plugins, name))
        # the name under which Lightning keeps its state in a file
        assert type(native.precision_plugin).__qualname__ == name


@pytest.mark.parametrize(
    ("plugin", "precision"),
    [
        (lambda: pl.plugins.MixedPrecision("16-mixed", "cpu"), "32-true"),
        (pl.plugins.HalfPrecision, "bf16-mixed"),
    ],
)
def test_a_precision_plugin_that_would_not_mean_the_same_is_refused(plugin, precision):
    trainer = trainer_of("lightning", precision=precision, native={"lightning": {"plugins": [plugin()]}})
    with pytest.raises(ConfigError, match=r"Precision.*\n.*precision="):
        trainer.fit(spec(), loader())


def test_another_plugin_is_accepted():
    plugin = pl.plugins.TorchCheckpointIO()
    trainer = trainer_of("lightning", precision="bf16-mixed", native={"lightning": {"plugins": plugin}})
    assert trainer.fit(spec(), loader()).step == 6
    assert trainer.native.precision == "bf16-mixed"


@pytest.mark.parametrize("name", [case.name for table in ("precision", "poisoned") for case in TABLES[table]])
def test_cases_train_with_finite_numbers(name):
    """Else they would compare nothing."""
    trace = reference(name)
    assert all(torch.isfinite(weight).all() for weight in trace.weights.values())
    scales = trace.scales[:-1]
    assert bool(scales) == (ALL[name].options["precision"] == "16-mixed")
    if name.startswith("poisoned"):
        assert any(after < before for before, after in pairwise(scales))
        assert any(after > before for before, after in pairwise(scales))
    elif name.startswith("exploding"):
        assert len({*scales}) > 2


def test_precisions_differ_from_each_other():
    ends = [reference(f"{precision}-unclipped-1").losses[-1].double() for precision in cases_precision.PRECISIONS]
    assert len({float(one) for one in ends}) == len(ends)
