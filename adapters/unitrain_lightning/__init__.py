"""unitrain on PyTorch-Lightning: a TrainSpec becomes a LightningModule in a real ``pytorch_lightning.Trainer``."""
