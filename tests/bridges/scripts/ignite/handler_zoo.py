"""Every way to attach a handler, and an optimizer that only handlers step."""

import torch
from ignite.engine import CallableEventWithFilter, Engine, Events, State
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class History:
    """A handler that is an object, with methods for several events."""

    def __init__(self):
        self.losses = []

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.remember)
        engine.add_event_handler(Events.COMPLETED, self)

    def remember(self, engine):
        self.losses.append(engine.state.output)

    def __call__(self, engine):
        print("history of", len(self.losses), f"ends with {self.losses[-1]:.6f}")


def main():
    torch.manual_seed(81)
    x = torch.randn(64, 5)
    loader = DataLoader(TensorDataset(x, x.prod(dim=1, keepdim=True)), batch_size=8, shuffle=True)
    model = nn.Sequential(nn.Linear(5, 10), nn.Tanh(), nn.Linear(10, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def compute_gradients(engine, batch):
        inputs, targets = batch
        loss = (model(inputs) - targets).pow(2).mean()
        loss.backward()
        return loss.item()

    trainer = Engine(compute_gradients)
    trainer.state.events = []
    history = History()
    history.attach(trainer)

    @trainer.on(Events.ITERATION_STARTED)
    def zero_grad():
        optimizer.zero_grad()

    @trainer.on(Events.ITERATION_COMPLETED)
    def step_optimizer(engine):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    @trainer.on(Events.ITERATION_COMPLETED(every=5))
    def every_five(engine):
        engine.state.events.append(("every", engine.state.iteration))

    @trainer.on(Events.ITERATION_COMPLETED(once=7))
    def only_once(engine):
        engine.state.events.append(("once", engine.state.iteration))

    @trainer.on(Events.ITERATION_COMPLETED(before=3) | Events.ITERATION_COMPLETED(after=22))
    def edges(engine):
        engine.state.events.append(("edges", engine.state.iteration))

    def squares(engine, event):
        return int(event**0.5) ** 2 == event

    @trainer.on(Events.ITERATION_STARTED(event_filter=squares))
    def on_squares(engine):
        engine.state.events.append(("square", engine.state.iteration))

    @trainer.on(Events.GET_BATCH_COMPLETED(once=2))
    def see_batch(engine):
        print("batch", [tuple(part.shape) for part in engine.state.batch])

    def log(engine, prefix, end="!"):
        print(prefix, engine.state.epoch, f"{sum(history.losses) / len(history.losses):.6f}" + end)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, log, "epoch")
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=2), log, "second", end="?")
    trainer.add_event_handler("completed" if False else Events.COMPLETED, lambda: print("done"))

    @trainer.on(Events.EPOCH_STARTED)
    def decay(engine):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 / engine.state.epoch

    @trainer.on(Events.ITERATION_COMPLETED(every=6))
    def cut_epoch(engine):
        if engine.state.epoch == 2:
            print("cut at", engine.state.iteration)
            engine.terminate_epoch()

    handle = trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: engine.state.events.append("gone"))
    handle.remove()
    assert isinstance(Events.ITERATION_STARTED(every=2), CallableEventWithFilter)

    state = trainer.run(loader, max_epochs=3)
    assert isinstance(state, State) and state is trainer.state
    print(state.events)
    print(state.epoch, state.iteration, state.epoch_length, state.max_epochs, sorted(state.times))


if __name__ == "__main__":
    main()
