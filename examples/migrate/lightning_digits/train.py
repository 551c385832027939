"""Train the classifier with PyTorch-Lightning."""

import pytorch_lightning as pl
from data import Digits
from model import Classifier
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint


def main():
    pl.seed_everything(0)
    digits = Digits()
    model = Classifier()
    best = ModelCheckpoint(dirpath="checkpoints", monitor="val_acc", mode="max")
    trainer = pl.Trainer(
        max_epochs=4,
        gradient_clip_val=1.0,
        callbacks=[EarlyStopping(monitor="val_loss", patience=3), best],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=digits)
    print(f"val_acc {trainer.callback_metrics['val_acc'].item():.4f} after {trainer.global_step} steps")
    results = trainer.test(model, datamodule=digits, ckpt_path="best")
    print(f"test_acc {results[0]['test_acc']:.4f}")


if __name__ == "__main__":
    main()
