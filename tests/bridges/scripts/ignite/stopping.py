"""Three ways to stop: by a handler, by a NaN and by a limit of iterations; then run on."""

import torch
from ignite.engine import Engine, Events
from ignite.handlers import TerminateOnNan
from ignite.handlers.terminate_on_nan import TerminateOnNan as Same
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

assert TerminateOnNan is Same


def make(lr):
    torch.manual_seed(9)
    x = torch.randn(50, 3)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=10, shuffle=True)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)

    def step(engine, batch):
        optimizer.zero_grad()
        loss = (model(batch[0]) - batch[1]).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    engine = Engine(step)

    @engine.on(Events.EPOCH_COMPLETED)
    def epoch_done():
        print("epoch", engine.state.epoch, "iteration", engine.state.iteration, f"{engine.state.output.item():.6f}")

    @engine.on(Events.TERMINATE | Events.TERMINATE_SINGLE_EPOCH | Events.COMPLETED | Events.INTERRUPT)
    def ended(engine, *args, **kwargs):
        print("ended", engine.last_event_name, engine.state.iteration)

    return engine, loader


def main():
    engine, loader = make(0.05)
    engine.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan(output_transform=lambda loss: 2 * loss))

    @engine.on(Events.ITERATION_COMPLETED)
    def good_enough():
        if engine.state.output < 0.8:
            engine.terminate()

    engine.run(loader, max_epochs=5)
    print("good after", engine.state.iteration)

    engine, loader = make(1e18)
    engine.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    engine.run(loader, max_epochs=20)
    print("nan after", engine.state.iteration)

    engine, loader = make(0.05)
    engine.run(loader, max_iters=7)
    print("iterations", engine.state.iteration, engine.state.epoch)

    engine, loader = make(0.05)
    engine.run(loader, max_epochs=2, epoch_length=3)
    engine.run(loader, max_epochs=4)
    print("went on to", engine.state.epoch, engine.state.iteration)


if __name__ == "__main__":
    main()
