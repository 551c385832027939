"""What type checkers refuse: each line with `# refused`, and no other."""

from functools import partial

import torch
from torch import nn

from unitrain import EarlyStopping, Event, LRSchedule, RunContext, TrainSpec, UnifiedTrainer

batches = [(torch.randn(8, 4), torch.randn(8, 1))]
spec = TrainSpec(model=nn.Linear(4, 1), loss=nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
trainer = UnifiedTrainer("ignite", max_epochs=2)

UnifiedTrainer("ignite", max_epoch=2)  # refused
UnifiedTrainer("ignite", max_epochs="2")  # refused
UnifiedTrainer(3)  # refused
TrainSpec(model=nn.Linear(4, 1), optimzer=None)  # refused
TrainSpec(model=3)  # refused
LRSchedule(interval="batch")  # refused
EarlyStopping("val/loss", patience="3")  # refused
trainer.fit(42, batches)  # refused
trainer.fit(spec, 17)  # refused
trainer.fit(spec, batches, val=batches)  # refused
trainer.fit(spec, batches, ckpt_path=3)  # refused
trainer.train(nn.Linear(4, 1), batches, optimzer=None)  # refused
trainer.validate(spec, 17)  # refused
trainer.on(Event.EPOCH_END(evry=2), lambda: None)  # refused
trainer.on("epoch_end", lambda: None)  # refused
trainer.export("model.onnx", opst=17)  # refused


def takes_a_number(run: int) -> None: ...


def returns_the_loss(run: RunContext) -> float:
    return run.state.metrics["val/loss"]


trainer.on(Event.EPOCH_END, takes_a_number)  # refused
text: str = trainer.on(Event.EPOCH_END, returns_the_loss)  # refused
