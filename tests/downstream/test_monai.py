"""MONAI: its trainers and evaluators are Ignite engines with a run of their own."""

from functools import partial

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice, StatsHandler, ValidationHandler
from monai.handlers import from_engine as taken
from monai.inferers import SimpleInferer
from monai.losses import DiceLoss
from monai.networks.nets import UNet
from monai.transforms import Compose, RandFlipd, ToTensord
from monai.utils import set_determinism

from tests.downstream.same import BACKENDS, QUIET, assert_equal, check_same, left, seed
from unitrain import TrainSpec, UnifiedTrainer, from_engine


def pictures(count):
    images = torch.rand(count, 1, 16, 16)
    return [{"image": one, "label": (one > 0.5).float()} for one in images]


def unet():
    return UNet(spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 8), strides=(2,), num_res_units=1)


def loaders():
    flips = Compose([RandFlipd(keys=["image", "label"], prob=0.5), ToTensord(keys=["image", "label"])])
    train = DataLoader(Dataset(pictures(8), flips), batch_size=4, shuffle=True)
    return train, DataLoader(Dataset(pictures(4)), batch_size=2)


def program():
    """Make a trainer with an evaluator, as MONAI's tutorials do."""
    seed()
    set_determinism(0)  # else a Dataset seeds its transforms from the operating system
    model = unet()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    train, val = loaders()
    dices = []
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=val,
        network=model,
        inferer=SimpleInferer(),
        postprocessing=lambda data: {**data, "pred": (data["pred"] > 0).float()},
        key_val_metric={"dice": MeanDice(include_background=True, output_transform=taken(["pred", "label"]))},
    )
    evaluator.add_event_handler("COMPLETED", lambda engine: dices.append(engine.state.metrics["dice"]))
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=train,
        network=model,
        optimizer=optimizer,
        loss_function=DiceLoss(sigmoid=True),
        inferer=SimpleInferer(),
        train_handlers=[ValidationHandler(1, evaluator), LrScheduleHandler(schedule, print_lr=False), StatsHandler()],
    )
    return trainer, model, dices


WAYS = {
    "fit(engine)": lambda framework, trainer: UnifiedTrainer(framework, **QUIET).fit(trainer),
    "fit(from_engine(engine))": lambda framework, trainer: UnifiedTrainer(framework, **QUIET).fit(from_engine(trainer)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("framework", BACKENDS)
def test_a_supervised_trainer_with_its_evaluator(framework, way):
    trainer, model, wanted = program()
    trainer.run()
    native = {**left(model), "dice": wanted, "output": [one["loss"] for one in trainer.state.output]}
    assert len(wanted) == 3
    trainer, model, got = program()
    WAYS[way](framework, trainer)
    assert_equal(
        native, {**left(model), "dice": got, "output": [one["loss"] for one in trainer.state.output]}, framework
    )


def test_unet_and_dice_with_transforms_that_flip():
    def case():
        set_determinism(0)
        spec = TrainSpec(
            model=unet(),
            optimizer=partial(torch.optim.Adam, lr=1e-2),
            training_step=lambda model, batch: DiceLoss(sigmoid=True)(model(batch["image"]), batch["label"]),
            validation_step=lambda model, batch: {
                "loss": DiceLoss(sigmoid=True)(model(batch["image"]), batch["label"]),
            },
        )
        return (spec, *loaders())

    assert "val/loss" in check_same(case)["metrics"]
