"""Find a rate, then train with a concatenation of schedulers, from an endless stream, in two runs."""

import itertools

import torch
from ignite.engine import DeterministicEngine, Engine, Events, supervised_training_step
from ignite.handlers import ConcatScheduler, FastaiLRFinder, LinearCyclicalScheduler, StateParamScheduler, Timer
from ignite.handlers.state_param_scheduler import LambdaStateScheduler
from ignite.metrics import Average, RunningAverage
from torch import nn


class Stream:
    def __init__(self, seed, batch_size=8):
        self.generator = torch.Generator().manual_seed(seed)
        self.batch_size = batch_size

    def __iter__(self):
        return self

    def __next__(self):
        x = torch.randn(self.batch_size, 4, generator=self.generator)
        return x, (x[:, :1] > x[:, 1:2]).float()


def make(lr):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return model, optimizer


def main():
    torch.manual_seed(37)
    model, optimizer = make(1e-3)
    update = supervised_training_step(model, optimizer, nn.BCEWithLogitsLoss())

    finder = FastaiLRFinder()
    searcher = Engine(update)
    to_save = {"optimizer": optimizer, "model": model}
    with finder.attach(
        searcher, to_save, output_transform=lambda loss: loss, num_iter=20, end_lr=1.0, diverge_th=3.0
    ) as finding:
        finding.run(list(itertools.islice(Stream(0), 20)), max_epochs=1)
    history = finder.get_results()
    print("tried", len(history["lr"]), f"{history['lr'][0]:.6g} to {history['lr'][-1]:.6g}")

    trainer = Engine(update)
    up = LinearCyclicalScheduler(optimizer, "lr", start_value=0.01, end_value=0.2, cycle_size=12)
    down = LinearCyclicalScheduler(optimizer, "lr", start_value=0.2, end_value=0.01, cycle_size=24)
    trainer.add_event_handler(Events.ITERATION_STARTED, ConcatScheduler([up, down], durations=[6]))
    temperature = LambdaStateScheduler(lambda_obj=lambda event: 0.5**event, param_name="temperature")
    temperature.attach(trainer, Events.EPOCH_COMPLETED)
    assert isinstance(temperature, StateParamScheduler)
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "running")
    Average(output_transform=lambda loss: loss).attach(trainer, "mean")
    timer = Timer()
    timer.attach(trainer, start=Events.STARTED)

    @trainer.on(Events.EPOCH_COMPLETED)
    def log(engine):
        metrics = engine.state.metrics
        print(engine.state.epoch, engine.state.temperature, f"{metrics['running']:.6f} {metrics['mean']:.6f}")

    trainer.run(Stream(1), max_epochs=2, epoch_length=7)
    trainer.run(Stream(2), max_epochs=4, epoch_length=7)
    print(trainer.state.iteration, timer.value() > 0)

    model, optimizer = make(0.1)
    same = DeterministicEngine(supervised_training_step(model, optimizer, nn.BCEWithLogitsLoss()))

    @same.on(Events.EPOCH_COMPLETED)
    def draw():
        print("draw", torch.rand(1).item())

    same.run(list(itertools.islice(Stream(3), 5)), max_epochs=2)
    print(same.state_dict()["iteration"], sum(p.sum().item() for p in model.parameters()))


if __name__ == "__main__":
    main()
