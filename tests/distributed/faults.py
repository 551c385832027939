"""Runs ``faulty.py`` with real processes, and looks at how all of them end and at what they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch

from tests.distributed.faulty import Plan
from tests.distributed.launching import TORCHRUN, environment

SCRIPT = Path(__file__).parent / "faulty.py"
MARK = "UNITRAIN_TEST_RUN"
LONGEST = 120
"""Seconds after which a run counts as a hang."""


@dataclass
class Ended:
    """How a run ended.

    Attributes:
        seconds: From the fault until the last process was gone.
        status: Of the process that was started.
        text: What all have written.
        left: Processes that had to be ended by the test.
        folder: What is left of the run.
    """

    seconds: float
    status: int
    text: str
    left: list[str]
    folder: Path


def command(launcher, folder, plan):
    head = [sys.executable]
    if launcher == "torchrun":
        head = [*TORCHRUN, "--standalone", f"--nproc-per-node={plan.size}"]
    return [*head, str(SCRIPT), str(folder), json.dumps(asdict(plan))]


def marked(mark):
    """Return the living processes of a run, however they were started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def ranks(mark):
    """Return the processes of a run by rank."""
    found = {}
    for process in marked(mark):
        with suppress(psutil.Error):
            rank = process.environ().get("RANK")
            if rank is not None and psutil.Process(process.ppid()).environ().get("RANK") is None:
                found[int(rank)] = process
    return found


def run(launcher, folder, plan, *, tell=None, longest=LONGEST):
    """Run ``plan`` until all its processes are gone, or for ``longest`` seconds.

    Args:
        launcher: ``"own"`` or ``"torchrun"``.
        folder: Where it works.
        plan: What happens.
        tell: Called with the process that was started and the mark of the run, when the run has come to its fault.
        longest: Seconds.
    """
    mark = uuid.uuid4().hex
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            command(launcher, folder, plan),
            env=environment(**{MARK: mark, "PYTHONPATH": str(SCRIPT.parents[2])}),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            if tell is not None:
                await_(lambda: (folder / "fault").exists() or process.poll() is not None, longest)
                tell(process, mark)
            await_(lambda: process.poll() is not None and not marked(mark), longest)
            end = time.time()
        finally:
            left = [f"{one.pid} {' '.join(one.cmdline()[:3])} {one.status()}" for one in marked(mark)]
            for one in marked(mark):
                with suppress(psutil.Error):
                    one.send_signal(signal.SIGKILL)
            process.wait()
    fault = folder / "fault"
    begin = float(fault.read_text()) if fault.exists() else end
    return Ended(end - begin, process.returncode, (folder / "log").read_text(), left, folder)


def await_(there, longest) -> None:
    """Wait until something is there, or for so many seconds."""
    end = time.monotonic() + longest
    while time.monotonic() < end and not there():
        time.sleep(0.1)


def assert_ended(ended, *, within, says=(), status=1) -> None:
    """All are gone in time, and the reason was told."""
    assert (ended.folder / "fault").exists(), ended.text
    assert ended.left == [], ended.text
    assert ended.seconds < within, (ended.seconds, ended.text)
    assert (ended.status != 0) == bool(status), ended.text
    for words in says:
        assert words in ended.text, ended.text


def newest(folder):
    """Return the newest checkpoint, as a user finds it: the newest file with that suffix."""
    files = sorted(Path(folder, "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    return files[-1] if files else None


def reached(folder, rank=0):
    """Return what a rank has reached; where the script starts processes itself, there is one."""
    return torch.load(Path(folder, f"reached-{rank}.pt"), weights_only=True)


@cache
def uninterrupted(size, options):
    """Return the weights that a run reaches to which nothing happens: the bare loop's."""
    with TemporaryDirectory() as name:
        plan = Plan(framework="reference", size=size, options=json.loads(options))
        ended = run("torchrun", Path(name), plan)
        assert ended.status == 0, ended.text
        return reached(name)["weights"]


def assert_resumes(ended, launcher, plan) -> None:
    """A new run from the newest checkpoint reaches what a run reaches to which nothing happened."""
    found = newest(ended.folder)
    again = ended.folder / "again"
    again.mkdir()
    plan = replace(plan, fault="", moment="batch", resume="" if found is None else str(found), data="")
    resumed = run(launcher, again, plan)
    assert resumed.status == 0, resumed.text
    expected = uninterrupted(plan.size, json.dumps(plan.options))
    for name, value in reached(again)["weights"].items():
        assert torch.equal(value, expected[name]), name


def tell_parent(number):
    """Return what sends a signal to the process that was started."""
    return lambda process, _: os.kill(process.pid, number)
