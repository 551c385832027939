"""Drives a bundle as each platform would: its own entry point, with that platform's variables."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from unitrain.deployment.bundle.archive import unpacked
from unitrain.deployment.bundle.contracts import CONTRACTS
from unitrain.deployment.bundle.manifest import SERVE
from unitrain.deployment.bundle.packages import different
from unitrain.deployment.bundle.questions import Client, numbers_of, question
from unitrain.serving.models.loaded import example_inputs, load
from unitrain.utilities.columns import in_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unitrain.deployment.bundle.contracts import Contract
    from unitrain.serving.arrays import Array
    from unitrain.serving.signature import Signature

START: Final = 240.0
"""Seconds within which a service must be ready."""
END: Final = 30.0
"""Seconds between SIGTERM and SIGKILL."""
_QUICK: Final = 2.0
"""Seconds that SageMaker waits for /ping."""
_PATIENCE: Final = 5.0
_POLL: Final = 0.05
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
"""The only variables of this process that a bundle gets: none may hold a secret."""
_OK, _TOO_LARGE = 200, 413
_CLOSE: Final = 1e-4
_LOG: Final = 300


class Checked(Protocol):
    """What is checked; see ``Bundle``."""

    @property
    def path(self) -> Path:
        """The folder."""
        ...

    @property
    def name(self) -> str:
        """The name of the model."""
        ...

    @property
    def archive(self) -> Path | None:
        """The ``.tar.gz`` of it, if there is one."""
        ...

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What ``manifest.json`` holds."""
        ...

    @property
    def signature(self) -> Signature:
        """The inputs and outputs of the model."""
        ...

    @property
    def model_file(self) -> Path:
        """The file of the model."""
        ...


class Check(NamedTuple):
    """One thing that was tried.

    Attributes:
        contract: The platform that expects it.
        what: What is expected.
        passed: Whether it was so.
        found: What was.
    """

    contract: str
    what: str
    passed: bool
    found: str


@dataclass(frozen=True)
class CheckReport:
    """What was tried.

    Attributes:
        checks: In their order.
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return all(one.passed for one in self.checks)

    def __str__(self) -> str:
        head = ("contract", "expected", "", "found")
        rows = ((one.contract, one.what, _WORDS[one.passed], one.found) for one in self.checks)
        return "\n".join(in_columns([head, *rows]))


_WORDS: Final = {True: "ok", False: "FAILED"}


@dataclass
class _Trial:
    """The checks of one platform.

    Attributes:
        contract: Of the platform.
        bundle: What is tried.
        inputs: An example.
        expected: What the model makes of it in this process.
        checks: What was found.
    """

    contract: Contract
    bundle: Checked
    inputs: list[Array]
    expected: list[Array]
    checks: list[Check] = field(default_factory=list)

    def note(self, what: str, *, passed: bool, found: str) -> None:
        """Note one thing."""
        self.checks.append(Check(self.contract.name, what, passed, found))

    def attempt(self, what: str, ask: Callable[[], tuple[bool, str]]) -> None:
        """Ask, and note whether the answer was as expected; no answer and an unreadable one are not."""
        try:
            passed, found = ask()
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            passed, found = False, f"{type(error).__name__}: {error}"[:_LOG]
        self.note(what, passed=passed, found=found)


def check(bundle: Checked) -> CheckReport:
    """Start the bundle as each platform does, ask for predictions, and stop it."""
    wrong = different(bundle.manifest["versions"]["packages"])
    found = [Check("all", "packages as in requirements.txt", not wrong, ", ".join(wrong) or "equal")]
    model = load(bundle.name, bundle.model_file, threads=1, max_batch=1)
    inputs = example_inputs(model.signature, 1)
    expected = [np.asarray(one, np.float64).ravel() for one in model.run(inputs)]
    for contract in CONTRACTS.values():
        trial = _Trial(contract, bundle, inputs, expected)
        _drive(trial)
        found += trial.checks
    return CheckReport(tuple(found))


def _drive(trial: _Trial) -> None:
    contract = trial.contract
    with _started(trial) as (process, client, log):
        began = time.monotonic()
        is_ready = _wait(process, client, contract.ready)
        trial.note(
            "ready", passed=is_ready, found=f"after {time.monotonic() - began:.1f} s" if is_ready else _tail(log)
        )
        if not is_ready:
            return
        _ask_health(trial, client)
        _ask_model(trial, client)
        _terminate(trial, process)


@contextlib.contextmanager
def _started(trial: _Trial) -> Iterator[tuple[subprocess.Popen[bytes], Client, IO[bytes]]]:
    """Start the entry point, and end it for sure."""
    port = _free_port()
    contract, folder = trial.contract, trial.bundle.path.absolute()
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    own = {name: value.format(port=port) for name, value in contract.environment.items()}
    # a host on this machine only: the check must not open the model to others
    command = [sys.executable, str(folder / SERVE), *contract.arguments, "--host", "127.0.0.1"]
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as elsewhere:
        variables = passed_on | own | {"UNITRAIN_MODEL_DIR": str(_model_folder(trial, Path(elsewhere)))}
        process = subprocess.Popen(  # noqa: S603 - the program that the bundle consists of
            command,
            env=variables,
            cwd=elsewhere,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process, Client(port), log
        finally:
            process.kill()
            process.wait()


def _model_folder(trial: _Trial, elsewhere: Path) -> Path:
    """Return the folder with the model: what the platform would unpack, where it unpacks something."""
    if not trial.contract.takes_archive or trial.bundle.archive is None:
        return trial.bundle.path.absolute()
    folder = elsewhere / "model"
    folder.mkdir()
    unpacked(trial.bundle.archive, folder)
    return folder


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], client: Client, route: str) -> bool:
    """Return whether a service becomes ready."""
    end = time.monotonic() + START
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if client.ask("GET", route, timeout=_QUICK).status == _OK:
                return True
        time.sleep(_POLL)
    return False


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    return " ".join(log.read().decode(errors="replace").split())[-_LOG:] or "no word"


def _ask_health(trial: _Trial, client: Client) -> None:
    def ask(route: str) -> tuple[bool, str]:
        began = time.monotonic()
        status = client.ask("GET", route).status
        seconds = time.monotonic() - began
        return status == _OK and seconds < _QUICK, f"status {status} in {seconds:.3f} s"

    for route in dict.fromkeys((trial.contract.live, trial.contract.ready)):
        trial.attempt(f"GET {route} within {_QUICK:g} s", partial(ask, route))


def _ask_model(trial: _Trial, client: Client) -> None:
    signature, contract = trial.bundle.signature, trial.contract
    route = contract.predict.format(name=trial.bundle.name)
    # padded to the largest body that the platform passes on
    body = question(contract.protocol, signature, trial.inputs).ljust(contract.max_body)

    def ask() -> tuple[bool, str]:
        answer = client.ask("POST", route, body)
        if answer.status != _OK:
            return False, f"status {answer.status}"
        found = numbers_of(contract.protocol, signature, answer.body)
        is_same = _are_close(found, trial.expected)
        return is_same, "the numbers of the model" if is_same else f"other numbers: {answer.body[:_LOG]!r}"

    def ask_too_much() -> tuple[bool, str]:
        status = client.announce(route, contract.max_body + 1, _PATIENCE).status
        return status == _TOO_LARGE, f"status {status}"

    trial.attempt(f"POST {route} of {len(body)} bytes", ask)
    trial.attempt("one byte more is refused", ask_too_much)


def _are_close(found: list[Array], expected: list[Array]) -> bool:
    """Return whether outputs are those of the model: another number of threads may sum in another order."""
    if [one.shape for one in found] != [one.shape for one in expected]:
        return False
    return all(np.allclose(*pair, rtol=_CLOSE, atol=_CLOSE) for pair in zip(found, expected, strict=True))


def _terminate(trial: _Trial, process: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END)
    status, seconds = process.poll(), time.monotonic() - began
    found = f"{seconds:.1f} s, status {status}" if status is not None else "it runs on"
    trial.note(f"SIGTERM ends it within {END:g} s", passed=status == 0, found=found)
