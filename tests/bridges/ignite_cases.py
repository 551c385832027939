"""Ignite programs, each about one thing that an engine can be asked to do."""

from __future__ import annotations

import functools
import warnings

import torch
from ignite.engine import (
    DeterministicEngine,
    Engine,
    EventEnum,
    Events,
    State,
    create_supervised_evaluator,
    create_supervised_trainer,
)
from ignite.handlers import (
    EarlyStopping,
    EMAHandler,
    FastaiLRFinder,
    LRScheduler,
    PiecewiseLinear,
    TerminateOnNan,
    TimeLimit,
    Timer,
    create_lr_scheduler_with_warmup,
)
from ignite.metrics import Accuracy, Loss, RunningAverage
from ignite.metrics.metric import BatchWise, RunningBatchWise, SingleEpochRunningBatchWise
from torch import nn

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def cases(name, **values):
    """Make a case of each value."""

    def decorate(function):
        for key, value in values.items():
            assert f"{name}_{key}" not in CASES
            CASES[f"{name}_{key}"] = functools.partial(function, value=value)
        return function

    return decorate


class Unsized:
    """A loader without a length, of another length each time."""

    def __init__(self, loader, *counts):
        self._loader, self._counts = loader, list(counts)

    def __iter__(self):
        count = self._counts.pop(0) if len(self._counts) > 1 else self._counts[0]
        for _, batch in zip(range(count), self._loader, strict=False):
            yield batch


# --- lengths ----------------------------------------------------------------------------------------------------------


@cases(
    "lengths",
    plain={"max_epochs": 3},
    default={},
    shorter={"max_epochs": 5, "epoch_length": 3},
    longer={"max_epochs": 3, "epoch_length": 6},
    iterations={"max_iters": 9},
    iterations_longer={"max_iters": 9, "epoch_length": 7},
    iterations_at_the_end={"max_iters": 8},
    empty={"max_epochs": 2, "epoch_length": 0},
)
def lengths(program, value):
    program.run(program.engine(), **value)


@cases("unsized", same=(3, 3), more=(2, 4), fewer=(4, 2), empty=(0, 0))
def unsized(program, value):
    program.run(program.engine(), Unsized(program.loader, *value), max_epochs=4)


@case
def unsized_iterations(program):
    program.run(program.engine(), Unsized(program.loader, 3), max_iters=7)


@case
def one_iterator(program):
    program.run(program.engine(), iter(list(program.loader)), max_epochs=3, epoch_length=3)


@case
def one_iterator_without_a_length(program):
    program.run(program.engine(), iter(list(program.loader)), max_epochs=2)


@case
def one_iterator_without_end(program):
    """A step that asks for more than the data holds, at the end of an epoch whose length is known."""
    program.run(program.engine(), iter(list(program.loader)), max_epochs=2, epoch_length=3)


@case
def no_data(program):
    draws = torch.randn(8, 4, 4), torch.randint(0, 3, (8, 4))
    engine = program.engine(
        lambda engine, batch: (batch, program.step(engine, [one[engine.state.iteration % 8] for one in draws]))
    )
    program.run(engine, None, max_epochs=2, epoch_length=5)
    program.run(program.engine(), None, max_epochs=2)


@case
def no_iterable(program):
    program.run(program.engine(), 5, max_epochs=2)


# --- ends -------------------------------------------------------------------------------------------------------------

WITHIN = {one.name.lower(): one for one in (Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED)}
WITHIN |= {one.name.lower(): one for one in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED)}
BEFORE = {one.name.lower(): one for one in (Events.STARTED, Events.EPOCH_STARTED)}
AT_THE_END = {one.name.lower(): one for one in (Events.EPOCH_COMPLETED, Events.COMPLETED)}


def _nth(event):
    return 2 if event in (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED) else 6 if event in WITHIN.values() else 1


def _on(engine, event, action, times=1):
    left = [_nth(event), times]

    def handler(engine):
        left[0] -= 1
        if left[0] <= 0 and left[1]:
            left[1] -= 1
            action(engine)

    engine.add_event_handler(event, handler)


@cases("terminate", **BEFORE, **WITHIN, **AT_THE_END, restart=Events.DATALOADER_STOP_ITERATION)
def terminate(program, value):
    engine = program.engine()
    _on(engine, value, lambda engine: engine.terminate())
    program.run(engine, max_epochs=3)
    program.run(engine, max_epochs=4)  # it goes on in a new epoch


@cases("terminate_quietly", **BEFORE, **WITHIN)
def terminate_quietly(program, value):
    engine = program.engine()
    _on(engine, value, lambda engine: engine.terminate(skip_completed=True))
    program.run(engine, max_epochs=3)


@cases("end_epoch", **BEFORE, **WITHIN, **AT_THE_END, restart=Events.DATALOADER_STOP_ITERATION)
def terminate_epoch(program, value):
    engine = program.engine()
    _on(engine, value, lambda engine: engine.terminate_epoch(), times=2)
    program.run(engine, max_epochs=3)
    program.run(engine)


@cases("end_epoch_quietly", **WITHIN)
def terminate_epoch_quietly(program, value):
    engine = program.engine()
    _on(engine, value, lambda engine: engine.terminate_epoch(skip_epoch_completed=True))
    program.run(engine, max_epochs=3)


@case
def terminate_in_the_step(program):
    def step(engine, batch):
        if engine.state.iteration == 6:
            engine.terminate()
        return program.step(engine, batch)

    program.run(program.engine(step), max_epochs=3)


@cases("interrupt", **BEFORE, **WITHIN, epoch_completed=Events.EPOCH_COMPLETED)
def interrupt(program, value):
    engine = program.engine()
    _on(engine, value, lambda engine: engine.interrupt(), times=2)
    for _ in range(4):
        program.run(engine, max_epochs=3)


# --- errors -----------------------------------------------------------------------------------------------------------


def _failing(error):
    def fail(engine):
        raise error("on purpose")

    return fail


@cases("error", **BEFORE, **WITHIN, **AT_THE_END)
def error(program, value):
    engine = program.engine()
    _on(engine, value, _failing(LookupError))
    program.run(engine, max_epochs=3)
    program.run(engine, max_epochs=3)  # Ignite's own engine runs nothing here
    program.run(engine, max_epochs=3)


@cases("error_taken", **BEFORE, **WITHIN, **AT_THE_END)
def error_taken(program, value):
    engine = program.engine()
    engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: program.log.note("taken", repr(error)))
    _on(engine, value, _failing(LookupError), times=2)
    program.run(engine, max_epochs=3)
    program.run(engine, max_epochs=4)


@cases("error_closed", **BEFORE, **WITHIN, **AT_THE_END)
def error_closed(program, value):
    """A GeneratorExit of the user's: what ends a generator from outside is raised as well."""
    for taken in (False, True):
        engine = program.engine()
        if taken:
            engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: program.log.note("taken", repr(error)))
        _on(engine, value, _failing(GeneratorExit))
        program.run(engine, max_epochs=3)
        program.run(engine, max_epochs=3)


IN_THE_STEP = {
    "lookup": LookupError,
    "stop": StopIteration,
    "interrupt": KeyboardInterrupt,
    "end": SystemExit,
    "closed": GeneratorExit,
}


@cases("error_in_the_step", **IN_THE_STEP)
def error_in_the_step(program, value):
    for taken in (False, True):

        def step(engine, batch):
            if engine.state.iteration == 6:
                raise value("on purpose")
            return program.step(engine, batch)

        engine = program.engine(step)
        if taken:
            engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: program.log.note("taken", repr(error)))
        try:
            program.run(engine, max_epochs=3)
        except SystemExit as end:
            program.log.note("exit", str(end))


@cases("error_of_the_loader", error=OSError, closed=GeneratorExit)
def error_of_the_loader(program, value):
    def batches():
        yield from program.loader
        raise value("on purpose")

    program.run(program.engine(), batches(), max_epochs=2, epoch_length=6)


class Refilled:
    """A loader that ends at its second start."""

    def __init__(self, batches):
        self.batches, self.started = batches, False

    def __iter__(self):
        if self.started:
            raise StopIteration("at the second start")
        self.started = True
        return iter(self.batches)


@cases("error_at_the_end_of_the_data", handler=True, loader=False)
def error_at_the_end_of_the_data(program, value):
    for taken in (False, True):
        engine = program.engine()
        if taken:
            engine.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: program.log.note("taken", repr(error)))
        if value:
            _on(engine, Events.DATALOADER_STOP_ITERATION, _failing(StopIteration))
        program.run(engine, Refilled(list(program.loader)), max_epochs=2, epoch_length=6)


@case
def within_itself(program):
    engine = program.engine()
    _on(engine, Events.ITERATION_COMPLETED, lambda engine: engine.run(program.loader, max_epochs=3))
    program.run(engine, max_epochs=3)


# --- the state --------------------------------------------------------------------------------------------------------


@cases("resume", iteration={"iteration": 6}, epoch={"epoch": 1}, done={"epoch": 3}, begin={"iteration": 0})
def resume(program, value):
    engine = program.engine()
    engine.load_state_dict({**value, "max_epochs": 3, "epoch_length": 4})
    program.run(engine)
    program.run(engine, max_epochs=5)
    program.run(engine, max_epochs=2)


@case
def twice(program):
    engine = program.engine()
    program.run(engine, max_epochs=2)
    program.run(engine, max_epochs=2)
    program.run(engine, max_epochs=3)
    engine.state.max_epochs = None
    program.run(engine, max_epochs=1)
    program.run(engine, max_iters=3)
    program.run(engine, max_epochs=4, epoch_length=3)


@case
def other_data(program):
    engine = program.engine()
    other = [(torch.randn(2, 4), torch.randint(0, 3, (2,))) for _ in range(3)]
    _on(engine, Events.ITERATION_COMPLETED, lambda engine: engine.set_data(other))
    program.run(engine, max_epochs=3)


@case
def other_batch(program):
    engine = program.engine()

    @engine.on(Events.ITERATION_STARTED(every=3))
    def change(engine):
        x, y = engine.state.batch
        engine.state.batch = x + torch.rand(()), y

    program.run(engine, max_epochs=3)


@case
def other_state(program):
    engine = program.engine()

    @engine.on(Events.EPOCH_COMPLETED(once=2))
    def change(engine):
        old = engine.state
        engine.state = State(**{**vars(old), "colour": "red"})

    engine.add_event_handler(Events.COMPLETED, lambda: program.log.note(engine.state.colour))
    program.run(engine, max_epochs=4)


@case
def own_attributes(program):
    engine = program.engine()
    engine.state_dict_user_keys.append("alpha")

    @engine.on(Events.STARTED)
    def begin(engine):
        engine.state.alpha = 0.5

    @engine.on(Events.ITERATION_COMPLETED)
    def more():
        engine.state.alpha *= 0.9

    program.run(engine, max_epochs=2)
    program.log.note(dict(engine.state_dict()))


# --- handlers ---------------------------------------------------------------------------------------------------------


@case
def filters(program):
    engine, note = program.engine(), program.log.note
    engine.add_event_handler(Events.ITERATION_COMPLETED(every=3), lambda: note("every"))
    engine.add_event_handler(Events.ITERATION_STARTED(once=5), lambda engine: note("once"))
    engine.add_event_handler(Events.EPOCH_COMPLETED(before=2) | Events.EPOCH_STARTED(after=1), lambda *a: note("list"))
    engine.add_event_handler(Events.ITERATION_STARTED(event_filter=lambda _, at: at in (2, 7)), lambda: note("filter"))
    engine.add_event_handler(Events.GET_BATCH_STARTED(every=2), lambda e, a, b=None: note(a, b), 1, b=2)
    engine.add_event_handler(Events.STARTED | Events.COMPLETED, lambda: note("both"))
    with engine.add_event_handler(Events.EPOCH_STARTED, lambda: note("never")):
        pass
    program.run(engine, max_epochs=3)


@case
def own_events(program):
    class Own(EventEnum):
        BACKWARD = "backward"
        STEP = "step"

    def step(engine, batch):
        engine.fire_event(Own.BACKWARD)
        output = program.step(engine, batch)
        engine.fire_event(Own.STEP)
        return output

    engine, note = program.engine(step), program.log.note
    engine.register_events(*Own, event_to_attr={Own.BACKWARD: "backwards", Own.STEP: "steps"})
    engine.register_events("named")
    engine.add_event_handler(Own.BACKWARD(every=2), lambda e: note("backward", e.state.backwards))
    engine.add_event_handler(Own.STEP, lambda e: setattr(e.state, "steps", e.state.steps + 1))
    engine.add_event_handler(Own.STEP(every=4), lambda e: e.fire_event("named"))
    engine.add_event_handler("named", lambda e: note("named", e.state.steps))
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(every=2), lambda e: e.fire_event(Events.DATALOADER_STOP_ITERATION)
    )
    program.run(engine, max_epochs=3)


@case
def step_in_a_handler(program):
    def step(engine, batch):
        x, y = batch
        loss = nn.functional.cross_entropy(program.net(x), y)
        loss.backward()
        return loss.item()

    engine = program.engine(step)
    schedule = torch.optim.lr_scheduler.StepLR(program.optimizer, 2)

    @engine.on(Events.ITERATION_COMPLETED(every=2) | Events.EPOCH_COMPLETED | Events.COMPLETED)
    def update():
        program.optimizer.step()
        program.optimizer.zero_grad()
        schedule.step()

    program.run(engine, max_epochs=3)


@case
def gradients_from_before(program):
    x, y = program.data.tensors
    nn.functional.cross_entropy(program.net(x), y).backward()

    def step(engine, batch):
        nn.functional.cross_entropy(program.net(batch[0]), batch[1]).backward()
        program.optimizer.step()

    program.net.eval()
    program.run(program.engine(step), max_epochs=2)


@case
def without_gradients(program):
    def step(engine, batch):
        program.log.note(torch.is_grad_enabled())
        with torch.enable_grad():
            return program.step(engine, batch)

    engine = program.engine(step)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: torch.set_grad_enabled(True))
    with torch.no_grad():
        program.run(engine, max_epochs=3)


@case
def many_handlers(program):
    engine = program.engine()
    evaluator = create_supervised_evaluator(program.net, {"accuracy": Accuracy(), "loss": Loss(nn.CrossEntropyLoss())})
    program.listen(evaluator)
    RunningAverage(output_transform=lambda x: x).attach(engine, "smooth")
    with warnings.catch_warnings(action="ignore"):  # that some of it is deprecated
        RunningAverage(output_transform=lambda x: x, epoch_bound=False).attach(engine, "smoother")
        patience = EarlyStopping(1, lambda e: -e.state.metrics["loss"], engine, min_delta=0.5)
    evaluator.add_event_handler(Events.COMPLETED, patience)
    RunningAverage(
        Loss(nn.functional.mse_loss, output_transform=lambda x: (torch.full((2,), x), torch.ones(2)))
    ).attach(engine, "of_metric")
    for name, usage in (
        ("batch", BatchWise()),
        ("running", RunningBatchWise()),
        ("bound", SingleEpochRunningBatchWise()),
    ):
        metric = Loss(nn.functional.mse_loss, output_transform=lambda x: (torch.full((2,), x), torch.zeros(2)))
        if name == "batch":
            metric.attach(engine, name, usage)
        else:
            RunningAverage(metric).attach(engine, name, usage)
    timer = Timer(average=True)
    timer.attach(engine, start=Events.EPOCH_STARTED, step=Events.ITERATION_COMPLETED)
    EMAHandler(program.net, momentum=0.1).attach(engine, name="ema", event=Events.ITERATION_COMPLETED)
    TerminateOnNan().attach(engine) if hasattr(TerminateOnNan, "attach") else engine.add_event_handler(
        Events.ITERATION_COMPLETED, TerminateOnNan()
    )
    engine.add_event_handler(Events.ITERATION_COMPLETED, TimeLimit(1000))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(program.loader))
    program.run(engine, max_epochs=5)
    program.log.note(timer.step_count)


@case
def schedules(program):
    engine = program.engine()
    warm = create_lr_scheduler_with_warmup(
        torch.optim.lr_scheduler.ExponentialLR(program.optimizer, 0.9), 0.0, 4, warmup_end_value=0.1
    )
    engine.add_event_handler(Events.ITERATION_STARTED, warm)
    momentum = PiecewiseLinear(program.optimizer, "weight_decay", [(2, 0.0), (9, 0.1)])
    engine.add_event_handler(Events.ITERATION_STARTED, momentum)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    engine.add_event_handler(Events.EPOCH_COMPLETED, LRScheduler(torch.optim.lr_scheduler.StepLR(other, 1)))
    engine.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: program.log.note([one["lr"] for o in (program.optimizer, other) for one in o.param_groups]),
    )
    program.run(engine, max_epochs=3)


@case
def a_range_test(program):
    engine = program.engine()
    finder = FastaiLRFinder()
    saved = {"model": program.net, "optimizer": program.optimizer}
    with finder.attach(engine, saved, num_iter=10, end_lr=1.0, step_mode="exp") as searching:
        program.run(searching)
    program.log.note(finder.get_results())
    program.run(engine, max_epochs=2)


@case
def not_a_number(program):
    def step(engine, batch):
        output = program.step(engine, batch)
        return float("nan") if engine.state.iteration == 6 else output

    engine = program.engine(step)
    engine.add_event_handler(Events.ITERATION_COMPLETED, TerminateOnNan())
    program.run(engine, max_epochs=3)


# --- engines ----------------------------------------------------------------------------------------------------------


@cases("deterministic", plain=None, epoch={"epoch": 1}, iteration={"iteration": 6})
def deterministic(program, value):
    engine = program.engine(kind=DeterministicEngine)
    if value is not None:
        engine.load_state_dict({**value, "max_epochs": 3, "epoch_length": 4, "rng_states": None})
    program.run(engine, max_epochs=3)


@cases(
    "supervised",
    plain={},
    accumulation={"gradient_accumulation_steps": 3},
    transformed={
        "prepare_batch": lambda batch, device, non_blocking: (batch[0] * 2, batch[1]),
        "model_transform": lambda output: output * 3,
        "output_transform": lambda x, y, y_pred, loss: {"loss": loss.item(), "size": len(y_pred)},
    },
    deterministic={"deterministic": True},
)
def supervised(program, value):
    engine = create_supervised_trainer(program.net, program.optimizer, nn.CrossEntropyLoss(), **value)
    program.listen(engine)
    program.run(engine, max_epochs=3)


@case
def a_legacy_loop(program):
    class Legacy(Engine):
        interrupt_resume_enabled = False

    engine = program.engine(kind=Legacy)
    _on(engine, Events.ITERATION_COMPLETED, lambda engine: engine.terminate_epoch())
    program.run(engine, max_epochs=3)
