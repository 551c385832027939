"""A framework's own code through the bridges: a LightningModule and an Ignite program on each backend of the cell."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.matrix import cells
from unitrain import UnifiedTrainer, from_engine
from unitrain.testing.trace import differences

BACKENDS = ["lightning", "ignite", "reference"]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "enable_progress_bar": False}


def data(samples=22):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(samples, 4, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4, shuffle=True)


def net():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))


def module_of(lightning):
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.seen = net(), []

        def training_step(self, batch, batch_idx):
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            self.log("loss", loss, on_step=True, on_epoch=True)
            self.seen.append(loss.detach().clone())
            return loss

        def validation_step(self, batch, batch_idx):
            self.log("val", nn.functional.mse_loss(self.net(batch[0]), batch[1]), prog_bar=True)

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)}

    return Module()


def told(module, metrics):
    return (
        {**module.state_dict()},
        module.seen,
        {name: float(one) for name, one in metrics.items()},
        torch.get_rng_state(),
    )


OPTIONS = {"max_epochs": 2, "accumulate_grad_batches": 2, "gradient_clip_val": 0.5}


@pytest.mark.parametrize("namespace", list(cells.NAMESPACES))
@pytest.mark.parametrize(("home", "framework"), [("lightning", one) for one in BACKENDS])
def test_a_lightning_module_is_trained_as_its_own_trainer_does(namespace, home, framework, tmp_path):
    lightning = cells.imported(namespace)
    plain = module_of(lightning)
    torch.manual_seed(3)
    native = lightning.Trainer(accelerator="cpu", default_root_dir=tmp_path, **OPTIONS, **QUIET)
    native.fit(plain, data(), data(10))
    expected = told(plain, native.callback_metrics)
    module = module_of(lightning)
    torch.manual_seed(3)
    own = {name: value for name, value in QUIET.items() if name != "enable_progress_bar"}
    trainer = UnifiedTrainer(
        framework, accelerator="cpu", enable_progress_bar=False, native={"lightning": own}, **OPTIONS
    )
    trainer.fit(module, data(), data(10))
    assert len(module.seen) == 12
    assert isinstance(trainer.foreign_trainer, lightning.Trainer) or framework != "lightning"
    assert not differences(expected, told(module, trainer.foreign_trainer.callback_metrics))


def engine_of(seen):
    from ignite.engine import Engine, Events
    from ignite.metrics import RunningAverage

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def step(engine, batch):
        model.train()
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss.item()

    engine = Engine(step)
    RunningAverage(output_transform=lambda output: output).attach(engine, "running")

    @engine.on(Events.ITERATION_COMPLETED(every=2))
    def note(engine):
        seen.append((engine.state.iteration, engine.state.output, engine.state.metrics["running"]))

    @engine.on(Events.EPOCH_COMPLETED(once=2))
    def halve():
        optimizer.param_groups[0]["lr"] /= 2

    return engine, model


@pytest.mark.parametrize(("home", "framework"), [("ignite", one) for one in BACKENDS])
def test_an_ignite_program_is_run_as_its_own_engine_does(home, framework):
    ends = []
    for run in (
        lambda engine: engine.run(data(), max_epochs=3),
        lambda engine: UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False).fit(
            from_engine(engine), data()
        ),
    ):
        seen = []
        engine, model = engine_of(seen)
        torch.manual_seed(3)
        run(engine)
        ends.append(({**model.state_dict()}, seen, engine.state.iteration, engine.state.epoch, torch.get_rng_state()))
    assert len(ends[0][1]) == 9
    assert not differences(*ends)
