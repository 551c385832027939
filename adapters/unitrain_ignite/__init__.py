"""unitrain on PyTorch-Ignite: a TrainSpec becomes the process function of a real ``ignite.engine.Engine``."""
