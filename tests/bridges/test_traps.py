"""What MIGRATION.md says that the frameworks do differently, measured again: each number that stands in its table of traps."""

import random

import pytest
import pytorch_lightning as pl
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import EarlyStopping, LRScheduler
from ignite.metrics import Average, Loss, RunningAverage
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.filterwarnings("ignore")


def loader():
    return DataLoader(TensorDataset(torch.arange(10.0).view(-1, 1)), batch_size=4)


def trainer(tmp_path, **options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    given = {**quiet, "enable_model_summary": False, "accelerator": "cpu", "default_root_dir": tmp_path, **options}
    return pl.Trainer(**given)


class Module(pl.LightningModule):
    """Trains a bias, and keeps what it saw in which order."""

    def __init__(self, schedule=None):
        super().__init__()
        self.layer, self.schedule = nn.Linear(1, 1), schedule
        self.seen, self.rates, self.order = [], [], []

    def training_step(self, batch, batch_idx):
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        self.seen.append([int(value) for value in batch[0].flatten()])
        self.log("mean", batch[0].mean(), on_step=False, on_epoch=True)
        return self.layer(batch[0]).mean()

    def validation_step(self, batch, batch_idx):
        self.order.append("validation_step")
        self.log("val", batch[0].mean())

    def on_train_epoch_end(self):
        self.order.append("on_train_epoch_end")

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return {"optimizer": optimizer, **({"lr_scheduler": self.schedule(optimizer)} if self.schedule else {})}


def test_the_mean_of_an_epoch(tmp_path):
    lightning = trainer(tmp_path, max_epochs=1)
    lightning.fit(Module(), loader())
    engine = Engine(lambda _, batch: batch[0].mean().item())
    Average().attach(engine, "average")
    RunningAverage(output_transform=lambda output: output).attach(engine, "running")
    engine.run(loader())
    assert lightning.callback_metrics["mean"].item() == 4.5
    assert [round(engine.state.metrics[name], 4) for name in ("average", "running")] == [5.1667, 1.7184]


def test_the_precision_of_a_mean(tmp_path):
    torch.manual_seed(0)
    data = DataLoader(TensorDataset(torch.randn(1000, 1), torch.zeros(1000, 1)), batch_size=7)

    class Measure(pl.LightningModule):
        def test_step(self, batch, batch_idx):
            self.log("loss", nn.functional.mse_loss(*batch))

    engine = Engine(lambda _, batch: tuple(batch))
    Loss(nn.MSELoss()).attach(engine, "loss")
    engine.run(data)
    (found,) = trainer(tmp_path).test(Measure(), data, verbose=False)
    assert found["loss"] == 1.0579924583435059
    assert engine.state.metrics["loss"] == 1.057992431640625


def test_order_and_validation_before_training(tmp_path):
    module = Module()
    trainer(tmp_path, max_epochs=1).fit(module, loader(), loader())
    assert module.order == ["validation_step"] * 2 + ["validation_step"] * 3 + ["on_train_epoch_end"]


def test_limits(tmp_path):
    module, seen = Module(), []
    trainer(tmp_path, max_epochs=2, limit_train_batches=2).fit(module, loader())
    engine = Engine(lambda _, batch: seen.append([int(value) for value in batch[0].flatten()]))
    engine.run(loader(), max_epochs=2, epoch_length=2)
    first, second, third = [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]
    assert module.seen == [first, second, first, second]
    assert seen == [first, second, third, first]


def test_accumulation(tmp_path):
    gradients = {"lightning": [], "ignite": []}
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = create_supervised_trainer(
        model, optimizer, lambda output, _: output.mean(), gradient_accumulation_steps=2,
        prepare_batch=lambda batch, **_: (batch[0], batch[0]),
    )  # fmt: skip
    runs = {
        "lightning": lambda: trainer(tmp_path, max_epochs=2, accumulate_grad_batches=2).fit(Module(), loader()),
        "ignite": lambda: engine.run(loader(), max_epochs=2),
    }
    for name, run in runs.items():
        hook = register_optimizer_step_post_hook(
            lambda stepped, *_, name=name: gradients[name].append(stepped.param_groups[0]["params"][1].grad.item())
        )
        run()
        hook.remove()
    assert gradients == {"lightning": [1.0, 0.5, 1.0, 0.5], "ignite": [1.0, 1.0, 1.0]}


def stopped_by_ignite(values):
    engine = Engine(lambda *_: None)
    handler = EarlyStopping(patience=2, score_function=lambda engine: -engine.value, trainer=engine, min_delta=0.1)
    for index, engine.value in enumerate(values):
        handler(engine)
        if engine.should_terminate:
            return index
    return None


def stopped_by_lightning(values, own):
    callback = pl.callbacks.EarlyStopping("val", patience=2, min_delta=0.1)
    own.should_stop = False
    for index, value in enumerate(values):
        own.callback_metrics["val"] = torch.tensor(value)
        callback._run_early_stopping_check(own)
        if own.should_stop:
            return index
    return None


def test_early_stopping_at_exactly_min_delta(tmp_path):
    drawn, differ, own = random.Random(0), 0, trainer(tmp_path)
    for _ in range(2000):
        values, value = [], 1.0
        for _ in range(8):
            values.append(value)
            value = round(value - drawn.choice([0.0, 0.1, 0.1, -0.1]), 1)
        differ += stopped_by_lightning(values, own) != stopped_by_ignite(values)
    assert differ == 502
    broken = [1.0, float("nan"), 0.9, 0.8, 0.7]
    assert (stopped_by_lightning(broken, own), stopped_by_ignite(broken)) == (1, None)


def rates_of_ignite(event, wrapped):
    parameter, rates = nn.Parameter(torch.zeros(1)), []
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedule = StepLR(optimizer, 1, 0.5)

    def step(_engine, _batch):
        optimizer.zero_grad()
        parameter.sum().backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()

    engine = Engine(step)
    # schedule.step itself would be given the engine, as the epoch
    engine.add_event_handler(event, LRScheduler(schedule) if wrapped else lambda: schedule.step())  # noqa: PLW0108
    engine.run(loader())
    return rates


def test_a_schedule_a_batch(tmp_path):
    module = Module(lambda optimizer: {"scheduler": StepLR(optimizer, 1, 0.5), "interval": "step"})
    trainer(tmp_path, max_epochs=1).fit(module, loader())
    right, late, early = [0.1, 0.05, 0.025], [0.1, 0.1, 0.05], [0.05, 0.025, 0.0125]
    assert module.rates == right
    assert rates_of_ignite(Events.ITERATION_STARTED, wrapped=True) == right
    assert rates_of_ignite(Events.ITERATION_COMPLETED, wrapped=True) == late
    assert rates_of_ignite(Events.ITERATION_COMPLETED, wrapped=False) == right
    assert rates_of_ignite(Events.ITERATION_STARTED, wrapped=False) == early


def test_a_plateau_is_lost_by_going_on(tmp_path):
    def plateau(optimizer):
        return {"scheduler": ReduceLROnPlateau(optimizer, factor=0.1, patience=0), "monitor": "val"}

    keep = pl.callbacks.ModelCheckpoint(tmp_path / "kept", "{epoch}", save_top_k=-1)
    whole, rest = Module(plateau), Module(plateau)
    options = {"max_epochs": 3, "num_sanity_val_steps": 0}
    trainer(tmp_path, callbacks=[keep], enable_checkpointing=True, **options).fit(whole, loader(), loader())
    trainer(tmp_path, **options).fit(rest, loader(), loader(), ckpt_path=tmp_path / "kept" / "epoch=1.ckpt")
    assert [round(rate, 6) for rate in whole.rates[::3]] == [0.1, 0.1, 0.01]
    assert rest.rates[0] == 0.1


def test_a_stop_within_an_epoch(tmp_path):
    class Stop(Module):
        def training_step(self, batch, batch_idx):
            self.trainer.should_stop = batch_idx == 1
            return super().training_step(batch, batch_idx)

    module, fired = Stop(), []
    trainer(tmp_path, max_epochs=5, num_sanity_val_steps=0).fit(module, loader(), loader())
    assert (len(module.seen), module.order[-1]) == (2, "on_train_epoch_end")
    engine = Engine(lambda *_: None)
    # engine.terminate itself would be given the engine, as skip_completed
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: engine.terminate())  # noqa: PLW0108
    for event in (Events.EPOCH_COMPLETED, Events.COMPLETED):
        engine.add_event_handler(event, lambda event=event: fired.append(event))
    engine.run(loader(), max_epochs=5)
    assert (engine.state.iteration, len(fired)) == (2, 1)


def test_an_error_is_swallowed():
    engine = Engine(lambda *_: 1 / 0)
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _error: None)
    engine.run(loader(), max_epochs=2)
    assert engine.state.epoch == 2


def test_a_step_without_train_trains_in_eval_mode():
    model, modes = nn.Dropout(), []
    engine = Engine(lambda *_: modes.append(model.training))
    evaluator = create_supervised_evaluator(model, prepare_batch=lambda batch, **_: (batch[0], batch[0]))

    @engine.on(Events.EPOCH_COMPLETED)
    def validate():
        evaluator.run(loader())

    engine.run(loader(), max_epochs=2)
    assert modes == [True] * 3 + [False] * 3


def test_a_default_of_a_handler_is_given_the_engine():
    got, engine = [], Engine(lambda *_: None)
    engine.add_event_handler(Events.COMPLETED, lambda name="a name": got.append(name))
    engine.run(loader())
    assert got == [engine]
