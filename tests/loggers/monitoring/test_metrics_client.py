"""A client gets one dict a batch, equal on every backend, for each kind of code, and cannot stop training."""

from __future__ import annotations

import csv
import threading
import time
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Engine, Events
from torch.utils.data import DataLoader, TensorDataset

from unitrain import ConfigError, CSVLogger, MetricsClient, PrometheusLogger, TrainSpec, UnifiedTrainer, from_engine
from unitrain.loggers import client_thread

QUIET = {"enable_progress_bar": False}


class Client:
    def __init__(self):
        self.got = []

    def push_metrics(self, metrics):
        self.got.append(metrics)


def rows():
    torch.manual_seed(1)
    return TensorDataset(torch.randn(48, 4), torch.randint(0, 3, (48,)))


def by_hand(accumulate=1):
    """Return the dicts of the same training, written by hand."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
    torch.manual_seed(1)
    data = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(6)]
    found = []
    for number, (inputs, target) in enumerate(data + data):
        rate, output = optimizer.param_groups[0]["lr"], net(inputs)
        loss = torch.nn.functional.cross_entropy(output, target)
        (loss / accumulate).backward()
        if (number + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        accuracy = (output.argmax(1) == target).float().mean()
        found.append({"batch_loss": loss.item(), "batch_accuracy": accuracy.item(), "learning_rate": rate})
    return found


def test_each_batch_of_a_spec_is_pushed_as_by_hand(train, framework):
    client = Client()
    train(framework, client, log_every_n_steps=50)
    assert client.got == by_hand()
    assert len(client.got) == 12


def test_batches_are_pushed_not_steps(train, framework):
    client = Client()
    train(framework, MetricsClient(client), accumulate_grad_batches=3)
    assert client.got == by_hand(accumulate=3)


def test_each_cadence_is_its_own(train, framework):
    third, fifth, whole = Client(), Client(), Client()
    train(framework, MetricsClient(third, every=3), MetricsClient(fifth, every=5), whole, log_every_n_steps=0)
    assert third.got == whole.got[2::3]
    assert fifth.got == whole.got[4::5]
    assert len(whole.got) == 12


def test_a_resumed_run_goes_on_in_its_cadence(train, framework, batches, tmp_path):
    whole, first, second = Client(), Client(), Client()
    train(framework, MetricsClient(whole, every=4))
    trainer = train(framework, MetricsClient(first, every=4), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    again = UnifiedTrainer(framework, max_epochs=2, loggers=[MetricsClient(second, every=4)], seed=3, **QUIET)
    again.fit(train.spec, batches, batches, ckpt_path=tmp_path / "one.ckpt")
    assert first.got + second.got == whole.got


def logged(model, batch):
    inputs, target = batch
    output = model(inputs)
    return {"loss": torch.nn.functional.cross_entropy(output, target), "top1_acc": _accuracy(output, target)}


def _accuracy(output, target):
    return (output.argmax(1) == target).float().mean()


ACCURACIES = {
    "what the step returns": {"training_step": logged, "validation_step": logged, "loss": None, "metrics": None},
    "a function": {"metrics": {"Accuracy": _accuracy}},
    "a metric of Ignite": {"metrics": {"top": None}},
}


@pytest.mark.parametrize("kind", ACCURACIES)
def test_the_accuracy_comes_from_what_there_is(train, framework, new_spec, kind):
    from ignite.metrics import Accuracy

    changes = dict(ACCURACIES[kind])
    if kind == "a metric of Ignite":
        changes["metrics"] = {"top": Accuracy()}
    client = Client()
    train(framework, client, spec=new_spec(**changes))
    assert client.got == by_hand()


def test_without_an_accuracy_there_is_no_key(train, framework, new_spec):
    client = Client()
    train(framework, client, spec=new_spec(metrics={"mae": lambda output, target: output.mean()}))
    assert client.got == [{name: value for name, value in one.items() if name != "batch_accuracy"} for one in by_hand()]


def test_the_metric_of_the_epoch_is_not_disturbed(train, framework):
    train(framework)
    before = train.result
    train(framework, Client())
    assert train.result.metrics == before.metrics
    assert train.result.history == before.history


class Module(pl.LightningModule):
    """The same training as a LightningModule."""

    def __init__(self, automatic=True):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
        self.automatic_optimization = automatic

    def training_step(self, batch, batch_idx):
        inputs, target = batch
        output = self.net(inputs)
        loss = torch.nn.functional.cross_entropy(output, target)
        self.log("train_acc", _accuracy(output, target), on_step=True, on_epoch=True)
        if not self.automatic_optimization:
            self.log("train_loss", loss)
            self.optimizers().zero_grad()
            self.manual_backward(loss)
            self.optimizers().step()
            self.lr_schedulers().step()
            return None
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", torch.tensor(0.125))  # must not be taken for the batch's

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def module_data():
    torch.manual_seed(1)
    parts = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(6)]
    return DataLoader(TensorDataset(*(torch.cat(one) for one in zip(*parts, strict=True))), 8)


@pytest.mark.parametrize("automatic", [True, False], ids=["automatic", "manual"])
def test_each_batch_of_a_lightning_module_is_pushed(framework, automatic, tmp_path):
    client, fourth = Client(), Client()
    trainer = UnifiedTrainer(
        framework, max_epochs=2, loggers=[client, MetricsClient(fourth, 4)], default_root_dir=tmp_path, **QUIET
    )
    trainer.fit(Module(automatic), module_data(), module_data())
    assert client.got == by_hand()
    assert fourth.got == client.got[3::4]


def engine(output):
    """Return the same training as an Ignite engine."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)

    def step(engine, batch):
        inputs, target = batch
        optimizer.zero_grad()
        scores = net(inputs)
        loss = torch.nn.functional.cross_entropy(scores, target)
        loss.backward()
        optimizer.step()
        return output(loss, _accuracy(scores, target))

    made = Engine(step)
    made.add_event_handler(Events.ITERATION_COMPLETED, lambda _: schedule.step())
    return made


OUTPUTS = {
    "a mapping": (lambda loss, acc: {"loss": loss.item(), "acc": acc}, True),
    "a tensor": (lambda loss, acc: loss.detach(), False),
    "a number": (lambda loss, acc: loss.item(), False),
    "a pair": (lambda loss, acc: (loss.item(), "more"), False),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_each_iteration_of_an_ignite_engine_is_pushed(framework, kind):
    output, measures = OUTPUTS[kind]
    client = Client()
    UnifiedTrainer(framework, max_epochs=2, loggers=[client]).fit(from_engine(engine(output)), module_data())
    expected = by_hand()
    if not measures:
        expected = [{name: one[name] for name in ("batch_loss", "learning_rate")} for one in expected]
    assert client.got == expected


def test_an_engine_takes_no_trackers_of_rows():
    trainer = UnifiedTrainer("ignite", max_epochs=1, loggers=[CSVLogger("runs")])
    with pytest.raises(ConfigError, match=r"(?s)does not apply to an Ignite program.*MetricsClient\(logger\)"):
        trainer.fit(from_engine(engine(OUTPUTS["a number"][0])), module_data())


@pytest.mark.parametrize("code", ["spec", "module", "engine"])
def test_a_logger_gets_the_same_as_rows(framework, new_spec, batches, tmp_path, code):
    logger = CSVLogger(tmp_path)
    trainer = UnifiedTrainer(
        framework,
        max_epochs=2,
        loggers=[MetricsClient(logger, 3)],
        default_root_dir=tmp_path,
        **(QUIET if code != "engine" else {}),
    )
    given = {"spec": (new_spec(), batches), "module": (Module(), module_data(), module_data())}
    trainer.fit(*given.get(code) or (from_engine(engine(OUTPUTS["a mapping"][0])), module_data()))
    with logger.path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [int(row["step"]) for row in found] == [3, 6, 9, 12]
    assert [float(row["batch_loss"]) for row in found] == [one["batch_loss"] for one in by_hand()[2::3]]


# --- clients that fail ------------------------------------------------------------------------------------------------


class Down(Client):
    """A client that fails in some calls."""

    def __init__(self, down, error=ConnectionError):
        super().__init__()
        self.calls, self.down, self.error = 0, down, error

    def push_metrics(self, metrics):
        self.calls += 1
        if self.calls in self.down:
            raise self.error("on purpose")
        super().push_metrics(metrics)


def test_nothing_is_lost_in_an_outage_and_the_order_is_kept(train, framework, monkeypatch):
    monkeypatch.setattr(client_thread, "_INTERVAL", 0.001)
    monkeypatch.setattr(client_thread, "_FIRST_PAUSE", 0.001)
    client = Down({2, 3, 7})

    def wait(run):  # else the whole run may be over before the first push
        client_thread.time.sleep(0.02)

    with pytest.warns(
        UserWarning, match=r"the client Down failed: ConnectionError\('on purpose'\). Training continues"
    ):
        train(framework, client, at_batch=wait)
    assert client.got == by_hand()


def test_a_dead_client_is_told_of_with_what_it_lost(train, framework, monkeypatch):
    monkeypatch.setattr(client_thread, "_INTERVAL", 30)  # the first push is at the end
    client = Down(range(1, 100))
    with pytest.warns(UserWarning, match="the client Down did not get the values of 12 batches: it failed: Connection"):
        trainer = train(framework, client)
    assert trainer.state.step == 12


def test_a_refused_dict_is_pushed_without_what_is_not_finite(train, new_spec, monkeypatch):
    monkeypatch.setattr(client_thread, "_INTERVAL", 30)

    class Strict(Client):
        def push_metrics(self, metrics):
            if any(value != value for value in metrics.values()):
                raise ValueError("Out of range float values are not JSON compliant")
            super().push_metrics(metrics)

    client = Strict()
    spec = new_spec(loss=lambda output, target: torch.nn.functional.cross_entropy(output, target) * float("nan"))
    with pytest.warns(UserWarning, match="the client Strict refused 12 values that are not finite"):
        train("reference", client, spec=spec)
    assert len(client.got) == 12
    assert all(one.keys() == {"batch_accuracy", "learning_rate"} for one in client.got)


def test_a_client_that_hangs_does_not_hold_up_training(train, framework, monkeypatch):
    monkeypatch.setattr(client_thread, "_PATIENCE", 0.3)
    release = threading.Event()

    class Hangs(Client):
        def push_metrics(self, metrics):
            release.wait(30)

    try:
        with pytest.warns(
            UserWarning, match="the client Hangs did not get the values of 12 batches: it does not return"
        ):
            assert train(framework, Hangs()).state.step == 12
    finally:
        release.set()


def test_the_end_waits_for_a_slow_client(train):
    class Slow(Client):
        def push_metrics(self, metrics):
            time.sleep(0.05)
            super().push_metrics(metrics)

    client = Slow()
    train("reference", client)
    assert client.got == by_hand()


def test_so_many_dicts_wait_and_the_oldest_are_dropped(train, monkeypatch):
    monkeypatch.setattr(client_thread, "_KEPT", 3)
    monkeypatch.setattr(client_thread, "_INTERVAL", 30)
    client = Client()
    with pytest.warns(UserWarning, match="did not get the values of 9 batches"):
        train("reference", client)
    assert client.got == by_hand()[9:]


def test_the_device_is_read_when_a_push_is_due_only(train, monkeypatch):
    read = []
    real = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: read.append(1) or real(self))
    counts = []
    for every in (1, 4):
        read.clear()
        spec = TrainSpec(
            model=torch.nn.Linear(4, 3), loss=torch.nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.1)
        )
        train("ignite", MetricsClient(Client(), every), spec=spec, log_every_n_steps=0)
        counts.append(len(read))
    assert counts[0] - counts[1] == 12 - 3


def test_what_is_given_twice_or_wrong_is_refused():
    for target in (None, 3, "client", Client, object(), CSVLogger):
        with pytest.raises(ConfigError, match="MetricsClient takes an object with push_metrics"):
            MetricsClient(target)
    for every in (0, -1, 1.0, True, "2"):
        with pytest.raises(ConfigError, match="every must be a positive number"):
            MetricsClient(Client(), every)
    with pytest.raises(ConfigError, match=r"push_metrics\(dict\)"):
        UnifiedTrainer("reference", loggers=[Client])
    assert repr(MetricsClient(CSVLogger("runs"), 2)) == "MetricsClient(CSVLogger('runs'), every=2)"


def test_one_tracker_in_two_runs_is_refused(train, new_spec, batches):
    client = MetricsClient(Client())

    def nested(run):
        inner = UnifiedTrainer("reference", max_epochs=1, loggers=[client], **QUIET)
        with pytest.raises(ConfigError, match="this MetricsClient is in use by another run"):
            inner.fit(new_spec(), batches)

    train("reference", client, at_end=nested)


def test_a_port_behind_a_client_opens_too(train):
    tracker, seen = PrometheusLogger(port=0), []
    train("reference", MetricsClient(tracker), at_end=lambda run: seen.append(tracker.url))
    assert seen[0].startswith("http://127.0.0.1:")
    assert tracker.url is None
