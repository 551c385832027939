"""Two trainers in turn: a handler of the teacher's trains the student, whose engine is a property of an object."""

import torch
from ignite.engine import Engine, Events
from ignite.handlers import ModelCheckpoint, PiecewiseLinear
from ignite.handlers.tensorboard_logger import *
from ignite.metrics import Average, Loss
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Student:
    _engine = None

    def __init__(self, teacher, net):
        self.teacher, self.net = teacher, net
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.05)

    def learn(self, engine, batch):
        self.net.train()
        self.optimizer.zero_grad()
        with torch.no_grad():
            wanted = self.teacher(batch[0])
        loss = nn.functional.mse_loss(self.net(batch[0]), wanted)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @property
    def trainer(self):
        if self._engine is None:
            engine = Engine(self.learn)
            Average().attach(engine, "distance")
            self._engine = engine
        return self._engine


def score(engine, batch):
    student.net.eval()
    with torch.no_grad():
        return student.net(batch[0]), batch[1]


def step(engine, batch):
    teacher.train()
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(teacher(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss.item()


torch.manual_seed(3)
x = torch.randn(20, 3)
data = TensorDataset(x, x.sum(1, keepdim=True).tanh())
loader = DataLoader(data, batch_size=5, shuffle=True)
teacher = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(teacher.parameters(), lr=0.02)
student = Student(teacher, nn.Linear(3, 1))
follower = student.trainer
evaluator = Engine(score)
Loss(nn.MSELoss()).attach(evaluator, "mse")
trainer = Engine(step)

trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), lambda _: follower.run(loader, max_epochs=2))
follower.add_event_handler(Events.COMPLETED, lambda _: evaluator.run(loader))
follower.add_event_handler(Events.COMPLETED, ModelCheckpoint("kept", "student", n_saved=2), {"net": student.net})
trainer.add_event_handler(Events.ITERATION_STARTED, PiecewiseLinear(optimizer, "lr", [(0, 0.02), (16, 0.0)]))


@evaluator.on(Events.COMPLETED)
def report():
    state = follower.state
    print(f"epoch {trainer.state.epoch}.{state.epoch}", state.metrics["distance"], evaluator.state.metrics["mse"])


logger = TensorboardLogger("logs")
logger.attach_output_handler(
    evaluator,
    Events.COMPLETED,
    tag="student",
    metric_names="all",
    global_step_transform=global_step_from_engine(trainer),
)
trainer.run(loader, max_epochs=4)
logger.close()
print(trainer.state.iteration, follower.state.iteration)
