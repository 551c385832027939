"""Hand-written loops that the tests compare with the programs."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from tests.comparison.programs import AT, loader, net, one_ulp, spec


def loop(also=("loss", "batch"), epochs=2, act=None, order=None, model=None):
    """Train as ``programs.make`` says, by hand.

    Args:
        also: What is yielded beside the model.
        epochs: Number of epochs.
        act: Called with the model and the number of steps done, before each step.
        order: Called with the batches of an epoch; returns those to train on.
        model: Makes the model.
    """
    made = (model or net)()
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)
    criterion, data, steps = nn.CrossEntropyLoss(), loader(), 0
    for _ in range(epochs):
        for number, batch in enumerate(order(data) if order else data):
            last = number == len(data) - 1
            if number % 2 == 0:
                optimizer.zero_grad()
            loss = criterion(made(batch[0]), batch[1])
            (loss / 2).backward()
            if number % 2 == 1 or last:
                if act is not None:
                    act(made, steps)
                optimizer.step()
                steps += 1
                if last:
                    schedule.step()
                values = {"model": made, "loss": loss, "batch": batch, "acc": 1.0, "number": loss.item()}
                yield {name: values[name] for name in ("model", *also)} if also else made


def at_fault(model, steps):
    if steps == AT:
        one_ulp(model[4].weight.grad, (1, 2))


def faulty():
    return loop(act=at_fault)


def bare():
    return loop(also=())


def longer():
    return loop(epochs=3)


def reversed_batches(data):
    batches = list(data)
    return [*reversed(batches[:-1]), batches[-1]]


def other_data():
    return loop(order=reversed_batches)


def other_data_bare():
    return loop(also=(), order=reversed_batches)


class Drawing:
    """Draws a number more in the second epoch, between the batches and the steps."""

    def __init__(self):
        self.epochs = 0

    def __call__(self, data):
        self.epochs += 1
        for number, batch in enumerate(data):
            if self.epochs == 2 and number == 0:
                torch.rand(1)
            yield batch


def other_draws():
    return loop(order=Drawing())


def other_weights():
    def made():
        model = net()
        one_ulp(model[4].bias.data, (0,))
        return model

    return loop(model=made)


def yields_text():
    yield "nothing"


def yields_more():
    return loop(also=("loss", "acc"))


def yields_a_number():
    return ({**given, "loss": given["loss"].item()} for given in loop())


def yields_two_models():
    for number, given in enumerate(loop(also=())):
        yield given if number != 1 else nn.Linear(1, 1)


class Scaled(nn.Linear):
    def forward(self, inputs, *, scale=1.0):
        return super().forward(inputs) * scale


def keyword_step(model, batch, scale=2.0):
    return nn.functional.cross_entropy(model(batch[0], scale=scale), batch[1])


def keyword_loop():
    model = Scaled(36, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in loader():
        optimizer.zero_grad()
        keyword_step(model, batch).backward()
        optimizer.step()
        yield model


def keyword_spec(scale=2.0):
    sgd = partial(torch.optim.SGD, lr=0.1)
    step = partial(keyword_step, scale=scale)
    changes = {"loss": None, "metrics": None, "lr_scheduler": None, "training_step": step, "optimizer": sgd}
    return spec(model=Scaled(36, 5), **changes), loader(), None, {"max_epochs": 1}


def other_keyword_spec():
    return keyword_spec(3.0)
