"""An error in the process function: a handler sees it and raises it again."""

import torch
from ignite.engine import Engine, Events
from torch import nn


class BadBatch(Exception):
    pass


def main():
    torch.manual_seed(1)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [torch.randn(4, 2) for _ in range(6)]
    batches[4][0, 0] = float("inf")

    def step(engine, batch):
        if not torch.isfinite(batch).all():
            raise BadBatch(f"iteration {engine.state.iteration}")
        optimizer.zero_grad()
        loss = model(batch).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    trainer = Engine(step)

    @trainer.on(Events.EXCEPTION_RAISED)
    def tell(engine, error):
        print("seen:", type(error).__name__, error, "in epoch", engine.state.epoch)
        raise error

    @trainer.on(Events.COMPLETED)
    def never():
        print("this is not printed")

    trainer.run(batches, max_epochs=2)


if __name__ == "__main__":
    main()
