"""Modules as they were written for Lightning 1.x, and what the real one made of them.

``python tests/compat/modules_of_1.py reached.json``, where pytorch-lightning 1.9.5 is installed, writes what it reached;
``MODULES`` and the runs must work there and here.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 3


def loader(count=20, shift=0.0):
    x = torch.linspace(-1, 1, count * 3).reshape(count, 3) + shift
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=6)


def modules(base):  # noqa: C901 - three classes, which need their base
    """Return the classes of modules, over the LightningModule ``base``."""

    class Plain(base):
        """Ends of epochs, with outputs that are dicts and tensors."""

        validations = 1

        def __init__(self):
            super().__init__()
            torch.manual_seed(3)
            self.layer = nn.Linear(3, 2)
            self.told = []

        def training_step(self, batch, batch_idx):
            loss = nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
            return {"loss": loss, "count": len(batch[0]), "batch_idx": batch_idx}

        def training_epoch_end(self, outputs):
            self.told.append(["train", *[(one["batch_idx"], one["count"]) for one in outputs]])
            self.log("train_loss", torch.stack([one["loss"] for one in outputs]).mean())

        def validation_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def validation_epoch_end(self, outputs):
            self.told.append(["val", len(outputs)])
            self.log("val_loss", torch.stack(outputs).mean())

        def test_step(self, batch, batch_idx):
            return None if batch_idx == 1 else {"right": (self.layer(batch[0]).argmax(1) == batch[1]).sum()}

        def test_epoch_end(self, outputs):
            self.told.append(["test", len(outputs)])
            self.log("right", float(sum(one["right"] for one in outputs)))

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    class Steps(Plain):
        """A tensor as the step's result, step ends, and the hooks with their old parameters, handed on to super()."""

        def training_step(self, batch, batch_idx):
            return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

        def training_step_end(self, loss):
            return loss * 2

        def validation_step_end(self, output):
            self.told.append("end")

        def training_epoch_end(self, outputs):
            self.told.append(sorted(outputs[0]))
            super().log("train_loss", sum(one["loss"] for one in outputs))

        def optimizer_step(
            self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu=False, using_lbfgs=False
        ):
            self.told.append(["step", epoch, batch_idx, optimizer_idx, on_tpu, using_lbfgs])
            super().optimizer_step(
                epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu=on_tpu, using_lbfgs=using_lbfgs
            )

        def lr_scheduler_step(self, scheduler, optimizer_idx, metric):
            self.told.append(["schedule", optimizer_idx, metric])
            super().lr_scheduler_step(scheduler, optimizer_idx, metric)

        def configure_gradient_clipping(
            self, optimizer, optimizer_idx, gradient_clip_val=None, gradient_clip_algorithm=None
        ):
            self.told.append(["clip", optimizer_idx, gradient_clip_val])
            super().configure_gradient_clipping(optimizer, optimizer_idx, gradient_clip_val, gradient_clip_algorithm)

        def on_before_optimizer_step(self, optimizer, optimizer_idx):
            self.told.append(["before", optimizer_idx])

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.told.append(["batch", sorted(outputs)])

        def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx):
            self.told.append(["val batch", dataloader_idx])

        def on_train_epoch_end(self):
            self.told.append("on_train_epoch_end")

    class Several(Plain):
        """Two loaders for validation: a list for each."""

        validations = 2

        def validation_step(self, batch, batch_idx, dataloader_idx):
            return nn.functional.cross_entropy(self.layer(batch[0]), batch[1]) * (dataloader_idx + 1)

        def validation_epoch_end(self, outputs):
            self.told.append(["val", *[len(one) for one in outputs]])
            self.log("val_loss", sum(sum(one) for one in outputs))

    return {one.__name__: one for one in (Plain, Steps, Several)}


def facts(module, metrics):
    """Return what a run has reached, as plain values."""
    weights = {name: value.tolist() for name, value in module.state_dict().items()}
    told = json.loads(json.dumps(module.told))
    return {"weights": weights, "told": told, "metrics": {name: float(value) for name, value in metrics.items()}}


def data(module):
    loaders = [loader(11, 0.1 * number) for number in range(module.validations)]
    return loader(), loaders if module.validations > 1 else loaders[0]


def reached(base, trainer):
    """Return what each module reaches under ``trainer(**options)``, a real Trainer's constructor."""
    found = {}
    for name, cls in modules(base).items():
        module = cls()
        own = trainer(max_epochs=EPOCHS, gradient_clip_val=0.1)
        own.fit(module, *data(module))
        metrics = dict(own.callback_metrics)
        own.test(module, loader(15), verbose=False)
        found[name] = facts(module, {**metrics, **own.callback_metrics})
    return found


if __name__ == "__main__":
    import pytorch_lightning as pl

    warnings.simplefilter("ignore")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    torch.set_num_threads(1)
    own = reached(
        pl.LightningModule,
        lambda **options: pl.Trainer(**quiet, enable_model_summary=False, accelerator="cpu", **options),
    )
    Path(sys.argv[1]).write_text(json.dumps({"lightning": pl.__version__, "modules": own}, indent=1) + "\n")
