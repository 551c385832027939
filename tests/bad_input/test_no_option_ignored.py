"""No argument of the trainer is silently ignored: on every framework it acts, or it is refused by name.

The table says, for each field of TrainerConfig, what a run shows without the option and with it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from unitrain import Callback, ConfigError, Event, TrainerConfig, TrainSpec, UnifiedTrainer, UnsupportedFeatureError
from unitrain.backends.protocol import ONE_DEVICE, Feature
from unitrain.testing.reference import ReferenceAdapter

HERE = "cpu" if torch.cuda.is_available() else "cuda"
"""An accelerator that is not what "auto" takes."""


class Case(NamedTuple):
    """An option that acts.

    ``key`` of the trace is ``usual`` without the option and ``changed`` with it; None stands for any other value.
    """

    value: Any
    key: str
    usual: Any
    changed: Any
    base: tuple[tuple[str, Any], ...] = ()
    stops: bool = False


class Count(Callback):
    def __init__(self):
        self.batches = 0

    def on_batch_end(self, run):
        self.batches += 1


COUNT = Count()


class Rows:
    def __init__(self):
        self.rows = 0

    def log_metrics(self, metrics, step):
        self.rows += 1


ROWS = Rows()

ACTS = {
    "max_epochs": Case(3, "epochs", 2, 3),
    "min_epochs": Case(2, "epochs", 1, 2, stops=True),
    "max_steps": Case(3, "step", 8, 3),
    "min_steps": Case(3, "step", 1, 3, stops=True),
    "max_time": Case({"microseconds": 1}, "step", 8, 1),
    "accelerator": Case(HERE, "device", None, HERE),
    "compile": Case(True, "compiled", False, True),
    "precision": Case("bf16-true", "dtype", "torch.float32", "torch.bfloat16"),
    "accumulate_grad_batches": Case(2, "step", 8, 4),
    "gradient_clip_val": Case(0.01, "weights", None, None),
    "gradient_clip_algorithm": Case("value", "weights", None, None, (("gradient_clip_val", 0.01),)),
    "val_check_interval": Case(2, "validations", 2, 4),
    "check_val_every_n_epoch": Case(2, "validations", 2, 1),
    "limit_train_batches": Case(2, "batches", 8, 4),
    "limit_val_batches": Case(1, "val batches", 6, 2),
    "limit_test_batches": Case(1, "test batches", 3, 1),
    "limit_predict_batches": Case(1, "predictions", 3, 1),
    "num_sanity_val_steps": Case(2, "evaluated", 6, 8),
    "reload_dataloaders_every_n_epochs": Case(1, "made", 0, 2),
    "fast_dev_run": Case(True, "batches", 8, 1),
    "overfit_batches": Case(1, "inputs", 4, 1),
    "deterministic": Case(True, "deterministic", (False, False), (True, False)),
    "benchmark": Case(True, "benchmark", False, True),
    "detect_anomaly": Case(True, "anomaly", False, True),
    "seed": Case(7, "seed", None, 7),
    "callbacks": Case([COUNT], "called", 0, 8),
    "loggers": Case([ROWS], "rows", 0, 2),
    "log_every_n_steps": Case(2, "rows", 2, 6, (("loggers", [ROWS]),)),
    "enable_progress_bar": Case(True, "lines", 0, 2),
    "default_root_dir": Case("elsewhere", "root", ".", "elsewhere"),
    "profiler": Case("simple", "profiled", 0, 8),
}

TOGETHER = {"devices": 2, "num_nodes": 2, "strategy": "ddp", "sync_batchnorm": True}
"""What acts on several processes: see tests/distributed. A backend that does not declare them refuses by name."""

BY_ITSELF = {"native", "prefetch_to_device"}
"""Means something else on each framework, or acts on a GPU only: tested below, and in tests/gpu/test_prefetching.py."""


class OneDevice(ReferenceAdapter):
    """A backend that declares nothing but what all can do."""

    features = ONE_DEVICE


def batches(count):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(8, 4, generator=generator), torch.randn(8, 1, generator=generator)) for _ in range(count)]


def observed(trace, run):
    """Note, once a run has begun, what only holds while it runs."""
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    trace["deterministic"] = torch.are_deterministic_algorithms_enabled(), warn_only
    trace["benchmark"] = torch.backends.cudnn.benchmark
    trace["anomaly"] = torch.is_anomaly_enabled()
    trace["seed"] = torch.initial_seed()
    trace["device"] = run.model.weight.device.type
    trace["compiled"] = "_compiled_call_impl" in vars(run.model)
    trace["dtype"] = str(run.model.weight.dtype)
    # only Lightning writes files of its own; elsewhere it is for callbacks to read
    trace["root"] = str(getattr(run.native, "default_root_dir", run.config.default_root_dir))


def traced(framework, capsys, *, stops=False, **options):
    """Fit, test and predict with ``options``, and return what was seen of it."""
    torch.manual_seed(0)
    spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
    trainer = UnifiedTrainer(framework, **{"max_epochs": 2, "enable_progress_bar": False, **options})
    trace, seen, inputs = {}, dict.fromkeys(("val_start", "val_batch_end", "test_batch_end", "batch_end"), 0), set()
    made, evaluated = [], []
    for name in seen:
        trainer.on(Event(name), lambda _run, name=name: seen.update({name: seen[name] + 1}))
    trainer.on(Event.FIT_START, partial(observed, trace))
    if stops:
        trainer.on(Event.BATCH_END(once=1), lambda run: run.stop())
    spec.model.register_forward_pre_hook(
        lambda model, given: inputs.add(given[0].sum().item()) if model.training else evaluated.append(1)
    )
    makes = options.get("reload_dataloaders_every_n_epochs")
    COUNT.batches = ROWS.rows = 0
    capsys.readouterr()
    result = trainer.fit(spec, (lambda: made.append(1) or batches(4)) if makes else batches(4), batches(3))
    trace |= {
        "lines": len(capsys.readouterr().err.splitlines()),
        "called": COUNT.batches,
        "rows": ROWS.rows,
        "inputs": len(inputs),
        "made": len(made),
        "evaluated": len(evaluated),
    }
    trainer.test(spec, batches(3))
    rows = () if result.profile is None else result.profile.rows
    trace["profiled"] = sum(row.calls for row in rows if row.part == "backward")
    trace |= {"step": result.step, "epochs": len(result.history), "weights": spec.model.weight.tolist()}
    trace |= {"validations": seen["val_start"], "val batches": seen["val_batch_end"]}
    trace |= {"test batches": seen["test_batch_end"], "batches": seen["batch_end"]}
    return trace | {"predictions": len(trainer.predict(spec, batches(3)))}


def test_table_covers_every_option():
    assert {*ACTS, *TOGETHER, *BY_ITSELF} == {*TrainerConfig.__dataclass_fields__}
    assert len(ACTS) + len(TOGETHER) + len(BY_ITSELF) == len(TrainerConfig.__dataclass_fields__)


@pytest.mark.parametrize("option", ACTS)
def test_option_acts(framework, option, capsys):
    case = ACTS[option]
    if option == "accelerator" and HERE == "cuda":
        with pytest.raises(ConfigError, match="accelerator='cuda'"):
            traced(framework, capsys, accelerator=HERE)
        return
    usual = traced(framework, capsys, stops=case.stops, **dict(case.base))[case.key]
    changed = traced(framework, capsys, stops=case.stops, **dict(case.base), **{option: case.value})[case.key]
    assert usual != changed
    assert case.usual in (None, usual)
    assert case.changed in (None, changed)


@pytest.mark.parametrize("option", TOGETHER)
def test_option_without_its_feature_is_refused_by_name(option):
    with pytest.raises(UnsupportedFeatureError) as caught:
        UnifiedTrainer(OneDevice(), **{option: TOGETHER[option]})
    message = str(caught.value)
    assert message.startswith(f"{option}=")
    assert all(part in message for part in (Feature.DEVICES.value, "'reference'", "\nHint: "))


def test_native_acts_or_is_refused(framework, make_spec, make_batches, make_trainer):
    if framework == "lightning":
        trainers = [make_trainer(), make_trainer(native={"lightning": {"profiler": "simple"}})]
        found = [type(trainer.create_trainer().profiler).__name__ for trainer in trainers]
        assert found[0] != found[1] == "SimpleProfiler"
        assert trainers[1].fit(make_spec(), make_batches()).step == 6
    else:
        with pytest.raises((ConfigError, UnsupportedFeatureError), match=framework):
            make_trainer(native={framework: {"anything": 1}}).create_trainer()


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
def test_prefetching_without_a_gpu_is_refused(stage, make_spec, make_batches, make_trainer):
    trainer, spec = make_trainer(accelerator="cpu", prefetch_to_device=True), make_spec()
    with pytest.raises(ConfigError) as caught:
        getattr(trainer, stage)(spec, make_batches())
    assert str(caught.value).startswith("prefetch_to_device=True needs a CUDA GPU; this run is on 'cpu'.")
    assert "\nHint: prefetch_to_device=torch.cuda.is_available()" in str(caught.value)


def test_switches_hold_only_while_a_run_lasts(framework, capsys):
    traced(framework, capsys, deterministic="warn", benchmark=True, detect_anomaly=True)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert not torch.is_anomaly_enabled()


@pytest.mark.filterwarnings("ignore:Error detected in:UserWarning")
def test_detect_anomaly_stops_at_the_first_nan(make_spec, make_batches, make_trainer):
    spec = make_spec(loss=lambda output, _: (output * 0).sqrt().sum() * 0)  # the root of 0 has no finite gradient
    with pytest.raises(RuntimeError, match="returned nan values"):
        make_trainer(detect_anomaly=True).fit(spec, make_batches())
    assert make_trainer(max_steps=1).fit(spec, make_batches()).step == 1
