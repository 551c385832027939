"""Ctrl-C and SIGTERM: a stop that is a stop by the user, bit for bit, and a file that goes on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch

from unitrain import Event, ModelCheckpoint, UnifiedTrainer
from unitrain.checkpoint import io
from unitrain.testing import cases
from unitrain.testing.models import loader
from unitrain.testing.trace import Case, differences, record

FRAMEWORKS = ["reference", "lightning", "ignite"]
NUMBERS = [signal.SIGINT, signal.SIGTERM]


def send(number) -> None:
    """Send a real signal to this process from another thread."""
    thread = threading.Thread(target=os.kill, args=(os.getpid(), number))
    thread.start()
    thread.join()


def sending(number, event=Event.BATCH_START, once=8):
    """Return what sends ``number`` in a fit."""

    def act(trainer) -> None:
        trainer.on(event(once=once), lambda: send(number))

    return act


def stopping(event=Event.BATCH_END, once=8):
    """Return what stops a fit as a handler does."""
    return lambda trainer: trainer.on(event(once=once), lambda run: run.stop())


def plain_case(**changes):
    base = {"name": "signals", "spec": cases.spec, "train": loader, "val": loader}
    return Case(**{**base, **changes})


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    before = [signal.getsignal(number) for number in NUMBERS]
    yield
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize(
    ("event", "once"),
    [(Event.BATCH_START, 8), (Event.VAL_BATCH_START, 3), (Event.EPOCH_START, 2), (Event.EPOCH_END, 1)],
    ids=str,
)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_ctrl_c_is_the_stop_that_a_handler_makes(framework, event, once, capfd):
    where = {Event.BATCH_START: (Event.BATCH_END, 8), Event.VAL_BATCH_START: (Event.VAL_END, 1)}
    where |= {Event.EPOCH_START: (Event.BATCH_END, 7), Event.EPOCH_END: (Event.EPOCH_END, 1)}
    expected = record("reference", plain_case(act=stopping(*where[event])))
    got = record(framework, plain_case(act=sending(signal.SIGINT, event, once)))
    assert not differences(expected, got)
    assert got.outcome[3] == "user"
    assert capfd.readouterr().err.count("unitrain: Ctrl-C: stopping after this batch; press it again to abort.\n") == 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_no_minimum_holds_a_signal_up(framework, tmp_path):
    options = {"min_epochs": 3, "min_steps": 15, "default_root_dir": tmp_path}
    for number, reason in zip(NUMBERS, ["user", "signal"], strict=True):
        trace = record(framework, plain_case(options=options, act=sending(number)))
        assert trace.outcome[2:] == (8, reason)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_minimum_holds_a_stop_by_a_handler_up(framework):
    """The negative control: the same stop without a signal waits."""
    trace = record(framework, plain_case(options={"min_epochs": 3}, act=stopping()))
    assert trace.outcome[2] > 8


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_second_ctrl_c_aborts_at_once(framework):
    seen = []

    def act(trainer) -> None:
        @trainer.on(Event.BATCH_START(once=3))
        def twice():
            send(signal.SIGINT)
            seen.append("first")
            send(signal.SIGINT)
            seen.append("second")

        trainer.on(Event.BATCH_END(once=3), lambda: seen.append("batch end"))
        trainer.on(Event.EXCEPTION, lambda run: seen.append(type(run.exception)))

    with pytest.raises(KeyboardInterrupt):
        record(framework, plain_case(act=act))
    assert seen == ["first", KeyboardInterrupt]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_handlers_are_put_back_after_an_error_of_user_code(framework, error):
    def act(trainer) -> None:
        @trainer.on(Event.BATCH_END(once=2))
        def fail():
            raise error

    with pytest.raises(error):
        record(framework, plain_case(act=act))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_the_user_ignores_or_handles_is_left_alone_outside_and_put_back(framework, tmp_path):
    calls = []
    before = [signal.signal(number, lambda *_: calls.append(1)) for number in NUMBERS]
    mine = [signal.getsignal(number) for number in NUMBERS]
    try:
        record(framework, plain_case(act=sending(signal.SIGTERM), options={"default_root_dir": tmp_path}))
        assert [signal.getsignal(number) for number in NUMBERS] == mine
        assert not calls
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert record(framework, plain_case(act=sending(signal.SIGTERM))).outcome[3] == "max_epochs"
    finally:
        for number, handler in zip(NUMBERS, before, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_fit_in_another_thread_leaves_the_handlers(framework):
    seen = []
    trainer = UnifiedTrainer(framework, max_epochs=1, enable_progress_bar=False)
    before = [signal.getsignal(number) for number in NUMBERS]
    trainer.on(Event.BATCH_END(once=1), lambda: seen.append([signal.getsignal(number) for number in NUMBERS]))
    thread = threading.Thread(target=trainer.fit, args=(cases.spec(), loader()))
    thread.start()
    thread.join()
    assert seen == [before]


CASES = {
    "mid-epoch": (Event.BATCH_START, 8),
    "last batch": (Event.BATCH_START, 12),
    "in validation": (Event.VAL_BATCH_START, 2),
    "start": (Event.FIT_START, 1),
    "mid-accumulation": (Event.BATCH_START, 10),
}


@pytest.mark.parametrize("reader", FRAMEWORKS)
@pytest.mark.parametrize("writer", FRAMEWORKS)
@pytest.mark.parametrize("name", CASES)
def test_sigterm_leaves_a_file_that_goes_on_exactly(name, writer, reader, tmp_path, resume):
    options = {"default_root_dir": tmp_path, "accumulate_grad_batches": 3 if "accumulation" in name else 1}
    case = plain_case(options=options)
    whole = record("reference", case)
    cut = record(writer, replace(case, act=sending(signal.SIGTERM, *CASES[name])))
    assert cut.outcome[3] == "signal"
    rest = resume.resumed(reader, case, tmp_path / "checkpoints" / "interrupted.ckpt")
    if name == "start":
        assert not differences(whole.weights, rest.weights)
        assert not differences(whole.tape[1:], rest.tape[1:])
    else:
        resume.assert_goes_on(whole, rest)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_sigterm_writes_beside_the_first_model_checkpoint(framework, tmp_path):
    kept = [ModelCheckpoint(tmp_path / "one"), ModelCheckpoint(tmp_path / "two")]
    trainer = UnifiedTrainer(framework, max_epochs=3, callbacks=kept, enable_progress_bar=False)
    sending(signal.SIGTERM)(trainer)
    result = trainer.fit(cases.spec(), loader())
    assert result.last_checkpoint == tmp_path / "one" / "interrupted.ckpt"
    assert io.read(result.last_checkpoint)["unitrain"]["progress"]["in_epoch"] == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_signal_before_the_middle_of_a_resumed_epoch_is_taken_up_keeps_the_place(framework, tmp_path, resume):
    case = plain_case(options={"default_root_dir": tmp_path})
    path = tmp_path / "checkpoints" / "interrupted.ckpt"
    record(framework, replace(case, act=sending(signal.SIGTERM)))
    trainer = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, default_root_dir=tmp_path)
    sending(signal.SIGTERM, Event.FIT_START, 1)(trainer)
    trainer.fit(cases.spec(), loader(), loader(), ckpt_path=path)
    resume.assert_goes_on(record("reference", case), resume.resumed(framework, case, path))


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from unitrain import Event, UnifiedTrainer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
torch.manual_seed(5)
trainer = UnifiedTrainer(sys.argv[1], max_epochs=-1, seed=0, enable_progress_bar=False, default_root_dir=sys.argv[2])
trainer.on(Event.BATCH_END(once=3), lambda: print("ready", flush=True))
result = trainer.fit(spec(), loader())
print(result.stopped_by, result.step, result.last_checkpoint, flush=True)
"""


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_script_goes_on_after_the_fit_and_ends_well(framework, number, tmp_path):
    command = [sys.executable, "-c", SCRIPT, framework, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()  # else a failure would wait here for ever, and leave it running
    assert process.returncode == 0, err
    reason, step, path = out.split()
    if number == signal.SIGINT:
        assert (reason, path) == ("user", "None")
        assert "press it again to abort" in err
        return
    assert (reason, path) == ("signal", str(tmp_path / "checkpoints" / "interrupted.ckpt"))
    torch.manual_seed(5)
    whole, rest = cases.spec(), cases.spec()
    options = {"max_epochs": None, "max_steps": int(step) + 3, "seed": 0, "enable_progress_bar": False}
    torch.manual_seed(5)
    whole = cases.spec()
    UnifiedTrainer("reference", **options).fit(whole, loader())
    UnifiedTrainer(framework, **options).fit(rest, loader(), ckpt_path=path)
    assert not differences(whole.model.state_dict(), rest.model.state_dict())
