"""LRMonitor, Timer, TerminateOnNaN, GradientAccumulationSchedule, EmptyCache and DeviceStats, on every backend."""

from __future__ import annotations

import sys
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from unitrain import (
    Callback,
    ConfigError,
    DeviceStats,
    EmptyCache,
    Event,
    GradientAccumulationSchedule,
    LRMonitor,
    LRSchedule,
    SpecError,
    TerminateOnNaN,
    Timer,
)

# --- LRMonitor --------------------------------------------------------------------------------------------------------


def test_rates_are_those_with_which_the_epoch_starts(framework, fit, make_spec):
    spec = make_spec(lr_scheduler=partial(StepLR, step_size=1, gamma=0.5), callbacks=[LRMonitor()])
    result, _ = fit(framework, spec=spec)
    assert [row["lr/optimizer"] for row in result.history] == [0.1, 0.05, 0.025]


def test_each_parameter_group_has_its_rate(framework, fit, make_spec):
    def groups(parameters):
        return torch.optim.SGD([{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 0.2}])

    result, _ = fit(framework, spec=make_spec(optimizer=groups, callbacks=[LRMonitor()]))
    assert (result.metrics["lr/optimizer-pg1"], result.metrics["lr/optimizer-pg2"]) == (0.1, 0.2)


def test_each_optimizer_has_its_rate(framework, fit):
    from unitrain.testing.cases import adversarial

    spec = adversarial()
    object.__setattr__(spec, "callbacks", (LRMonitor(),))
    from unitrain import UnifiedTrainer
    from unitrain.testing.models import loader

    result = UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False).fit(spec, loader())
    assert {name for name in result.metrics if name.startswith("lr/")} == {"lr/gen", "lr/disc"}


# --- Timer ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Return a clock of Timer's that is moved by hand."""
    from unitrain.callbacks import timer

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(timer, "time", clock)
    return clock


class Tick(Callback):
    def __init__(self, clock):
        self.clock = clock

    def on_batch_start(self, run):
        self.clock.now += 1


def test_timer_stops_after_the_batch(framework, fit, clock):
    result, trainer = fit(framework, Tick(clock), Timer("00:00:00:06"), max_epochs=9)
    assert (trainer.state.batch, result.stopped_by) == (6, "max_time")


def test_timer_counts_the_time_before_a_resume(framework, fit, clock):
    timer = Timer({"seconds": 6})

    class Resume(Callback):
        def on_fit_start(self, run):
            timer.load_state_dict({"elapsed": 4.0})

    _, trainer = fit(framework, timer, Resume(), Tick(clock), max_epochs=9)
    assert trainer.state.batch == 2
    assert timer.state_dict() == {"elapsed": 6.0}


def test_timer_starts_anew_with_each_fit(fit, clock):
    timer = Timer({"seconds": 6})
    assert [fit("reference", Tick(clock), timer, max_epochs=9)[1].state.batch for _ in range(2)] == [6, 6]


@pytest.mark.parametrize("duration", [None, "tomorrow", {"second": 1}, 5, {"seconds": -1}])
def test_timer_refuses_what_is_no_duration(duration):
    with pytest.raises(ConfigError, match=r"Timer\(duration=\)"):
        Timer(duration)


# --- TerminateOnNaN ---------------------------------------------------------------------------------------------------


class Spoil(Callback):
    def __init__(self, batch, value):
        self.batch, self.value = batch, value

    def on_batch_end(self, run):
        if run.state.batch == self.batch + 1:
            with torch.no_grad():
                run.model.bias.fill_(self.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_stops(framework, fit, value):
    with pytest.warns(
        UserWarning, match=r"TerminateOnNaN: the parameter 'bias' is not finite after batch 5 .* epoch 1"
    ):
        result, trainer = fit(framework, Spoil(5, value), TerminateOnNaN())
    assert (trainer.state.batch, result.stopped_by, result.epoch) == (6, "nan", 1)


def test_a_loss_that_is_not_finite_stops(framework, fit, make_spec):
    losses = iter([1.0, 1.0, float("nan")])
    spec = make_spec(loss=lambda output, _: output.sum() * 0 + next(losses), callbacks=[TerminateOnNaN()])
    with pytest.warns(UserWarning, match="the loss is nan after batch 2"):
        assert fit(framework, spec=spec)[1].state.batch == 3


def test_a_second_fit_is_looked_at_too(fit):
    callback = TerminateOnNaN()
    for _ in range(2):
        with pytest.warns(UserWarning, match="TerminateOnNaN"):
            fit("reference", Spoil(0, float("nan")), callback)


def test_a_healthy_run_is_left_alone(framework, fit):
    assert fit(framework, TerminateOnNaN())[0].stopped_by == "max_epochs"


# --- GradientAccumulationSchedule -------------------------------------------------------------------------------------


def test_schedule_says_how_many_steps_an_epoch_has(framework, fit):
    result, _ = fit(framework, GradientAccumulationSchedule({1: 2, 3: 4, 4: 3}), max_epochs=6)
    steps = [row["step"] for row in result.history]
    assert [after - before for before, after in zip([0, *steps], steps, strict=False)] == [4, 2, 2, 1, 2, 2]


def test_schedule_equals_the_option_where_it_is_constant(framework, fit):
    def weights(*callbacks, **options):
        return fit(framework, *callbacks, seed=0, **options)[1].model.weight

    scheduled = weights(GradientAccumulationSchedule({0: 3}))
    assert torch.equal(scheduled, weights(accumulate_grad_batches=3))
    assert not torch.equal(scheduled, weights())


def by_hand(run, batch):
    loss = nn.functional.mse_loss(run.model(batch[0]), batch[1])
    run.backward(loss)
    run.step()


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({}, {"accumulate_grad_batches": 2}, "accumulate_grad_batches=2"),
        ({}, {"callbacks": [GradientAccumulationSchedule({0: 2})]}, "another one"),
        ({"automatic_optimization": False, "training_step": by_hand}, {}, "manual optimization"),
        ({"optimizer": partial(torch.optim.LBFGS, lr=0.1)}, {}, "LBFGS"),
    ],
)
def test_schedule_is_refused_where_it_would_contradict(framework, fit, make_spec, changes, options, says):
    spec = make_spec(callbacks=[GradientAccumulationSchedule({0: 2})], **changes)
    with pytest.raises(ConfigError, match=says) as caught:
        fit(framework, spec=spec, **options)
    assert "GradientAccumulationSchedule" in str(caught.value)


@pytest.mark.parametrize("schedule", [{}, {-1: 2}, {0: 0}, {0: 1.5}, {"0": 1}, {0: True}])
def test_schedule_refuses_what_cannot_be_meant(schedule):
    with pytest.raises(ConfigError, match="epochs"):
        GradientAccumulationSchedule(schedule)


# --- EmptyCache and DeviceStats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "expected"),
    [(Event.EPOCH_END, 3), (Event.BATCH_END(every=5), 2), (Event.EPOCH_END | Event.FIT_END, 4), (Event.VAL_END, 3)],
)
def test_cache_is_emptied_at_the_chosen_events(framework, fit, data, monkeypatch, on, expected):
    from unitrain.callbacks import empty_cache

    emptied = []
    monkeypatch.setitem(empty_cache._CACHES, "cpu", lambda: emptied.append(1))
    fit(framework, EmptyCache(on), val=data(1))
    assert len(emptied) == expected


def test_a_cpu_has_no_cache(framework, fit):
    assert fit(framework, EmptyCache())[0].step == 12


def test_cache_is_emptied_at_events_only():
    with pytest.raises(SpecError, match="Event"):
        EmptyCache("epoch_end")


def test_process_memory_is_logged(framework, fit):
    result, _ = fit(framework, DeviceStats())
    assert all(row["device/process_memory"] > 1e6 for row in result.history)


def test_system_is_logged_if_it_is_asked_for(framework, fit, tmp_path):
    """The trackers' rows and the history hold it; a loop that keeps a core busy is seen."""
    import csv
    import time

    from unitrain import CSVLogger

    class Spin(Callback):
        def on_batch_end(self, run):
            until = time.process_time() + 0.15
            while time.process_time() < until:
                pass

    logger = CSVLogger(tmp_path)
    result, _ = fit(framework, Spin(), DeviceStats(system=True), loggers=[logger], log_every_n_steps=1)
    with logger.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    percents = [float(row["device/cpu_percent"]) for row in rows]
    assert max(percents) > 20.0  # of a core, on a machine that does other things too
    assert min(percents) > 0.0
    assert all(0.0 < float(row["device/system_memory_percent"]) < 100.0 for row in rows)
    assert all(row["device/cpu_percent"] > 0.0 for row in result.history)
    assert "device/gpu_percent" not in rows[0]  # a CPU has none


def test_system_is_left_out_otherwise(framework, fit):
    result, _ = fit(framework, DeviceStats())
    assert {name for row in result.history for name in row if name.startswith("device/")} == {"device/process_memory"}


def test_idle_process_is_not_busy():
    """The percentage is of the time since the reading before, and not of the process's whole life."""
    import time

    from unitrain.callbacks.device_stats import _psutil

    stats = DeviceStats(system=True)
    stats._process = _psutil().Process()
    stats._busy, stats._clocks = 0.0, stats._read_clocks()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    busy = stats._cpu_percent()
    assert stats._cpu_percent() == busy  # too soon for another reading
    time.sleep(0.5)
    assert stats._cpu_percent() < busy / 2


def test_gpu_s_load_is_left_out_where_torch_cannot_read_it():
    from unitrain.callbacks.device_stats import _gpu_percent

    assert _gpu_percent(torch.device("cpu")) is None
    found = _gpu_percent(torch.device("cuda", 0))
    assert found is None or (torch.cuda.is_available() and 0.0 <= found <= 100.0)


def test_process_memory_without_psutil_is_refused(framework, fit, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ConfigError, match="pip install psutil"):
        fit(framework, DeviceStats())


def test_schedulers_are_seen_before_they_step(framework, fit, make_spec):
    """A gauge of the step shows the rate that its batch began with."""
    seen = []
    schedule = LRSchedule(partial(StepLR, step_size=1, gamma=0.5), interval="step")

    class Reader:
        def log_metrics(self, metrics, step):
            seen.append(metrics.get("lr/optimizer"))

    spec = make_spec(lr_scheduler=schedule, callbacks=[LRMonitor()])
    fit(framework, spec=spec, max_epochs=1, loggers=[Reader()], log_every_n_steps=1)
    assert seen == [0.1, 0.05, 0.025, 0.0125, 0.1]
