"""create_supervised_trainer with gradient accumulation, models by idist.auto_model, common helpers."""

import ignite.distributed as idist
import torch
from ignite.contrib.engines import common
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint
from ignite.metrics import Accuracy, Loss
from ignite.utils import manual_seed, setup_logger
from torch import nn
from torch.utils.data import TensorDataset


def get_datasets():
    x = torch.randn(96, 4)
    y = (x[:, :2].sum(dim=1) > 0).long()
    return TensorDataset(x[:70], y[:70]), TensorDataset(x[70:], y[70:])


def training(local_rank, config):
    rank = idist.get_rank()
    manual_seed(config["seed"] + rank)
    device = idist.device()
    train_set, val_set = get_datasets()
    train_loader = idist.auto_dataloader(train_set, batch_size=config["batch_size"], shuffle=True)
    val_loader = idist.auto_dataloader(val_set, batch_size=config["batch_size"])
    model = idist.auto_model(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)))
    optimizer = idist.auto_optim(torch.optim.Adam(model.parameters(), lr=config["lr"]))
    criterion = nn.CrossEntropyLoss().to(device)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config["lr"], total_steps=3 * len(train_loader))

    trainer = create_supervised_trainer(
        model,
        optimizer,
        criterion,
        device=device,
        gradient_accumulation_steps=config["accumulate"],
        output_transform=lambda x, y, y_pred, loss: {"loss": loss.item()},
    )
    trainer.logger = setup_logger("trainer", level=30)
    common.setup_common_training_handlers(
        trainer=trainer,
        to_save={"model": model, "optimizer": optimizer, "trainer": trainer},
        save_every_iters=6,
        output_path=config["output"],
        lr_scheduler=scheduler,
        output_names=["loss"],
        with_pbars=False,
        clear_cuda_cache=False,
    )
    evaluator = create_supervised_evaluator(
        model, metrics={"accuracy": Accuracy(), "loss": Loss(criterion)}, device=device
    )

    @trainer.on(Events.EPOCH_COMPLETED(every=config["validate_every"]) | Events.COMPLETED)
    def run_validation():
        state = evaluator.run(val_loader)
        print(
            trainer.state.epoch,
            {k: round(v, 6) for k, v in state.metrics.items()},
            f"{trainer.state.metrics['loss']:.6f}",
        )

    common.save_best_model_by_val_score(
        config["output"],
        evaluator=evaluator,
        model=model,
        metric_name="accuracy",
        n_saved=1,
        trainer=trainer,
        tag="test",
    )
    trainer.run(train_loader, max_epochs=config["epochs"])
    assert Checkpoint is not None


def main():
    config = {
        "seed": 543,
        "batch_size": 10,
        "lr": 0.03,
        "accumulate": 4,
        "epochs": 3,
        "validate_every": 2,
        "output": "out",
    }
    with idist.Parallel(backend=None) as parallel:
        parallel.run(training, config)


if __name__ == "__main__":
    main()
