"""Run by torchrun on two processes: trains on both, exports from both, and tells what each has seen."""

import json
import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn

from unitrain import EMA, Event, ShardedBatches, TrainSpec, UnifiedTrainer, UnitrainError


def refusal(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except UnitrainError as error:
        return str(error)
    return None


def main(folder, backend, strategy):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    trainer = UnifiedTrainer(
        backend, max_epochs=1, devices=2, strategy=strategy, accelerator="cpu", enable_progress_bar=False, seed=0
    )
    data = [(torch.randn(4, 4), torch.randint(0, 3, (4,))) for _ in range(4)]
    spec = TrainSpec(
        model=model, loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.1), callbacks=[EMA(0.5)]
    )
    said = {}

    @trainer.on(Event.EPOCH_END)
    def within() -> None:
        said["within"] = refusal(trainer.export, folder / "within.pt2")

    trainer.fit(spec, ShardedBatches(data))
    example = {"example_input": torch.randn(2, 4)}
    said["opset"] = refusal(trainer.export, folder / "refused.onnx", opset=11, **example)
    report = trainer.export(folder / "model.pt2", **example)
    said["there"] = report.path.exists()
    said["differences"] = [one.relative for one in report.differences]
    trainer.export(folder / "ema.pt2", weights="ema", **example)
    (folder / f"{trainer.rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
