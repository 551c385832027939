"""A user's script that trains on two processes which unitrain starts, and leaves what the parent got back."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from unitrain import CSVLogger, EarlyStopping, Event, LRMonitor, ModelCheckpoint, ProgressBar, UnifiedTrainer
from unitrain.testing import cases
from unitrain.testing.models import loader


def at_the_end(run) -> None:
    """Leave a word of each process."""
    (Path(run.config.default_root_dir) / f"rank-{run.rank}-of-{run.world_size}").touch()


def main(framework: str, folder: str) -> None:
    torch.set_num_threads(2)  # one for each process
    torch.manual_seed(3)
    spec = cases.spec("cnn", "adamw", "step")
    kept = ModelCheckpoint(f"{folder}/kept", monitor="val/loss", save_top_k=2, save_last=True)
    callbacks = [kept, EarlyStopping(monitor="val/loss", patience=5), LRMonitor(), ProgressBar()]
    tracker = CSVLogger(folder)
    trainer = UnifiedTrainer(
        framework, devices=2, strategy="ddp", max_epochs=3, seed=0, callbacks=callbacks, loggers=[tracker],
        log_every_n_steps=1, default_root_dir=folder,
    )  # fmt: skip
    trainer.on(Event.FIT_END, at_the_end)
    result = trainer.fit(spec, loader(), loader(shuffle=False, samples=11))
    trainer.save_checkpoint(Path(folder) / "afterwards.ckpt")
    rows = tracker.path.read_bytes()
    evaluated = {}
    if framework == "ignite":  # it costs two launches more
        evaluated["validated"] = trainer.validate(spec, loader(shuffle=False, samples=11))
        evaluated["predicted"] = torch.cat(trainer.predict(spec, loader(shuffle=False, samples=11)))
    torch.save(
        {
            **evaluated,
            "weights": spec.model.state_dict(),
            "optimizer": trainer.optimizers["optimizer"].state_dict(),
            "result": [result.metrics, result.history, result.epoch, result.step, result.stopped_by, result.framework],
            "state": [trainer.state.epoch, trainer.state.step, trainer.state.batch, trainer.state.metrics],
            "best": [str(result.best_checkpoint), kept.best_model_score, [str(one) for one, _ in kept.best_k_models]],
            "last": str(result.last_checkpoint),
            "log": rows.decode(),
        },
        Path(folder) / "result.pt",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
