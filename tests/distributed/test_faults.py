"""Whatever happens to one process, all end in time and say why, nothing is left behind, and a new run goes on exactly.

The times are those of the fault until the last process is gone, on a busy machine with two cores.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
import uuid
from dataclasses import asdict

import psutil
import pytest

from tests.distributed.faults import (
    LONGEST,
    MARK,
    SCRIPT,
    Plan,
    assert_ended,
    assert_resumes,
    await_,
    newest,
    ranks,
    reached,
    run,
    tell_parent,
)
from tests.distributed.faulty import WORD
from tests.distributed.launching import said_by, two_hosts

LAUNCHERS = ("own", "torchrun")
FRAMEWORKS = ("reference", "lightning", "ignite")
MOMENTS = ("fit_start", "batch", "backward", "after_backward", "validation", "checkpoint", "epoch_end")

SOON = 30
"""Seconds until all have ended after an error or a kill, with the settings that unitrain has by itself."""

WATCHDOG = 5
FROZEN = {"own": WATCHDOG + 25, "torchrun": WATCHDOG + 45}
"""A process that is stopped is ended by its launcher: unitrain's waits for 10 seconds, torchrun for 30."""

SILENT = "sent no heartbeat"


def plan_for(fault, moment, **changes):
    # only rank 0 writes files
    return Plan(fault=fault, moment=moment, rank=0 if moment == "checkpoint" else 1, watchdog=WATCHDOG, **changes)


def expect_end(fault, launcher, plan, folder):
    """Run a plan that ends everything; check how it ends and that a new run goes on from what it left."""
    ended = run(launcher, folder, plan)
    says = {"raise": (WORD, f"rank {plan.rank} failed with ValueError")}.get(fault, (f"rank {plan.rank} {SILENT}",))
    assert_ended(ended, within=FROZEN[launcher] if fault == "freeze" else SOON, says=says)
    return ended


# --- one of each kind, on one backend -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "moment", "launcher", "framework"),
    [
        pytest.param("raise", "batch", "own", "ignite", marks=pytest.mark.slow),
        ("kill", "checkpoint", "torchrun", "lightning"),
    ],
)
def test_the_others_end_and_a_new_run_goes_on_exactly(fault, moment, launcher, framework, tmp_path):
    plan = plan_for(fault, moment, framework=framework)
    assert_resumes(expect_end(fault, launcher, plan, tmp_path), launcher, plan)


@pytest.mark.slow
def test_a_process_that_is_stopped_is_found_by_the_watchdog_and_ended_by_the_launcher(tmp_path):
    expect_end("freeze", "own", plan_for("freeze", "backward"), tmp_path)


def test_different_numbers_of_batches_are_refused_before_training(tmp_path):
    ended = run("own", tmp_path, Plan(data="few", framework="reference"))
    assert "rank 0 has 6, rank 1 has 5" in ended.text
    assert (ended.left, ended.status, newest(tmp_path)) == ([], 1, None)


# --- all kinds at all moments on all backends ---------------------------------------------------------------------------

ENDS = [
    (fault, moment, launcher, framework)
    for fault, moment, launcher, framework in itertools.product(
        ("raise", "kill", "freeze", "exit"), MOMENTS, LAUNCHERS, FRAMEWORKS
    )
    if moment in ("batch", "backward", "checkpoint") or fault != "exit"
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "moment", "launcher", "framework"), ENDS)
def test_every_fault_at_every_moment(fault, moment, launcher, framework, tmp_path):
    plan = plan_for(fault, moment, framework=framework)
    assert_resumes(expect_end(fault, launcher, plan, tmp_path), launcher, plan)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("fault", ["raise", "kill", "freeze"])
def test_three_processes(fault, launcher, tmp_path):
    plan = plan_for(fault, "backward", size=3)
    assert_resumes(expect_end(fault, launcher, plan, tmp_path), launcher, plan)


@pytest.mark.slow
@pytest.mark.parametrize("time_of_it", range(20))
@pytest.mark.parametrize("fault", ["raise", "kill", "freeze"])
def test_twenty_times(fault, time_of_it, tmp_path):
    launcher = LAUNCHERS[time_of_it % 2]
    moment = MOMENTS[time_of_it % len(MOMENTS)]
    framework = FRAMEWORKS[time_of_it % 3]
    expect_end(fault, launcher, plan_for(fault, moment, framework=framework), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_error_that_the_script_survives_ends_the_others(framework, tmp_path):
    plan = plan_for("raise", "batch", framework=framework, catch=True)
    ended = run("torchrun", tmp_path, plan)
    assert_ended(ended, within=SOON, says=("survived", WORD, "rank 1 failed with ValueError"))


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_workers_of_a_killed_process_go_too(launcher, framework, tmp_path):
    plan = plan_for("kill", "batch", framework=framework, workers=2)
    assert_resumes(expect_end("kill", launcher, plan, tmp_path), launcher, plan)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sample_that_one_process_cannot_read(launcher, workers, tmp_path):
    ended = run(launcher, tmp_path, Plan(data="broken", workers=workers))
    assert_ended(ended, within=SOON, says=(WORD, "failed with ValueError"))


@pytest.mark.slow
def test_an_exchange_that_takes_too_long_ends_all(tmp_path):
    ended = run("torchrun", tmp_path, plan_for("stall", "batch", timeout=5))
    assert_ended(ended, within=5 + 45, says=("rank 0", "DDP(timeout=...)"))  # torchrun's 30 seconds for who sleeps


# --- data and values that differ ----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_data_of_unknown_length_that_ends_early(launcher, framework, tmp_path):
    ended = run(launcher, tmp_path, Plan(data="stream", framework=framework))
    assert_ended(ended, within=SOON, says=("DataError",))
    assert "rank 1 has 4" in ended.text or framework == "reference"


@pytest.mark.slow
def test_different_models_are_refused_before_training(tmp_path):
    ended = run("torchrun", tmp_path, Plan(data="model"))
    assert "'layers.0.weight' is (8, 6) of torch.float32 on rank 0 and (9, 6)" in ended.text
    assert (ended.left, ended.status, newest(tmp_path)) == ([], 1, None)


STOPS = {"stop": "user", "nan": "user", "early": "early_stopping", "sigint": "user", "sigterm": "signal"}


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("fault", STOPS)
def test_a_stop_on_one_process_stops_all(fault, launcher, framework, tmp_path):
    ended = run(launcher, tmp_path, Plan(fault=fault, framework=framework))
    assert_ended(ended, within=SOON, status=0)
    everybodys = [reached(tmp_path, rank) for rank in range(2 if launcher == "torchrun" else 1)]
    assert {one["stopped_by"] for one in everybodys} == {STOPS[fault]}
    assert len({one["step"] for one in everybodys}) == 1
    assert 6 < everybodys[0]["step"] < 18


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_not_a_number_in_the_gradients_of_one_process_is_an_error_of_that_process(framework, tmp_path):
    ended = run("own", tmp_path, Plan(fault="nan", framework=framework, options={"detect_anomaly": True}))
    assert_ended(ended, within=SOON, says=("rank 1 failed with RuntimeError", "returned nan values"))


# --- signals and the launcher -------------------------------------------------------------------------------------------


def slowly(**changes):
    """A run of which there is enough left when the signal comes."""
    return Plan(fault="nap", rank=-1, watchdog=WATCHDOG, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_parent_stops_all_and_keeps_what_was_reached(number, framework, tmp_path):
    plan = slowly(framework=framework)
    ended = run("own", tmp_path, plan, tell=tell_parent(number))
    assert_ended(ended, within=SOON, status=0)
    assert reached(tmp_path, 0)["stopped_by"] == STOPS["sigterm" if number == signal.SIGTERM else "sigint"]
    assert_resumes(ended, "own", plan) if number == signal.SIGTERM else None


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_sigterm_to_torchrun_saves_on_all(framework, tmp_path):
    plan = slowly(framework=framework)
    ended = run("torchrun", tmp_path, plan, tell=tell_parent(signal.SIGTERM))
    assert ended.left == []
    assert ended.seconds < SOON
    assert newest(tmp_path).name == "interrupted.ckpt"
    assert_resumes(ended, "torchrun", plan)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_at_once(number, tmp_path):
    def tell(parent, _) -> None:
        children = psutil.Process(parent.pid).children()
        started = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(started) == 2
        for child in started:
            child.send_signal(number)

    ended = run("own", tmp_path, slowly(), tell=tell)
    assert_ended(ended, within=SOON, status=0)
    assert reached(tmp_path, 0)["step"] < 18


@pytest.mark.slow
def test_a_second_ctrl_c_ends_all_at_once(tmp_path):
    def tell(process, _) -> None:
        for _ in range(2):
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.3)

    ended = run("own", tmp_path, slowly(), tell=tell)
    assert_ended(ended, within=SOON, says=("KeyboardInterrupt",))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_nobody_outlives_a_launcher_that_was_killed(launcher, tmp_path):
    plan = slowly()
    ended = run(launcher, tmp_path, plan, tell=tell_parent(signal.SIGKILL))
    assert_ended(ended, within=SOON, status=-9)
    assert_resumes(ended, launcher, plan)


@pytest.mark.slow
def test_a_host_that_loses_its_network(tmp_path):
    """Of two hosts, made of network namespaces; torchrun itself waits longer, for its own store."""
    plan, mark = plan_for("network", "batch", hosts=2), uuid.uuid4().hex
    with two_hosts() as hosts:
        told = ["--rdzv-backend=c10d", f"--rdzv-endpoint={hosts[0].address}:29413", "--rdzv-id=cut"]
        arguments = ["--nproc-per-node=1", SCRIPT, tmp_path, json.dumps(asdict(plan))]
        path = str(SCRIPT.parents[2])
        started = [
            host.torchrun(
                *told, f"--rdzv-conf=is_host={first}", *arguments,
                UNITRAIN_TEST_CARD=host.card, PYTHONPATH=path, **{MARK: mark},
            )
            for host, first in zip(hosts, ("true", "false"), strict=True)
        ]  # fmt: skip
        await_((tmp_path / "fault").exists, LONGEST)
        cut = time.monotonic()
        await_(lambda: not ranks(mark), LONGEST)
        seconds = time.monotonic() - cut
    for process in started:
        process.wait(timeout=10)
    texts = [said_by(process) for process in started]
    assert (tmp_path / "fault").exists(), texts
    assert seconds < WATCHDOG + 25, (seconds, texts)
    assert any("sent no heartbeat" in text for text in texts), texts
    assert any("the network is down" in text for text in texts), texts
