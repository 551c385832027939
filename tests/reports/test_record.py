"""`run.json`: what is written before and after a fit, and what is refused when it is read."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

import unitrain
from tests.reports.pages import fitted
from unitrain import ConfigError
from unitrain.reports.run import record as record_module
from unitrain.reports.run import surroundings
from unitrain.reports.run.process import is_alive
from unitrain.reports.run.record import RunRecord, begin_record, end_record, read_record

GIVEN = {"config": "seed: 3", "spec": "a net", "framework": "reference", "seed": 3}


def alive(record):
    return is_alive(record.process, record.hardware.get("host"), record.started)


def test_a_record_is_written_before_training(tmp_path):
    made = begin_record(tmp_path, **GIVEN)
    assert read_record(tmp_path) == made
    assert (made.status, made.config, made.seed, made.ended) == ("running", "seed: 3", 3, None)
    assert made.versions["unitrain"] == unitrain.__version__
    assert {"python", "torch", "pytorch-lightning", "pytorch-ignite"} <= made.versions.keys()
    assert {"host", "system", "cores", "memory"} <= made.hardware.keys()
    assert alive(made) is True


def test_a_record_is_completed_with_the_result(tmp_path):
    begin_record(tmp_path, **{**GIVEN, "spec": ""})
    result = fitted(profiler="simple")
    done = end_record(tmp_path, result)
    assert read_record(tmp_path) == done
    assert (done.status, done.stopped_by, done.epoch, done.step) == ("finished", "max_epochs", 1, 6)
    assert dict(done.metrics) == result.metrics
    assert [dict(row) for row in done.history] == result.history
    assert [dict(row) for row in done.rates] == [{"epoch": 0, "lr/optimizer": 0.1}, {"epoch": 1, "lr/optimizer": 0.1}]
    assert [(one["epoch"], one["steps"]) for one in done.times] == [(0, 3), (1, 3)]
    assert done.profile["optimizer step"]["calls"] == 6
    assert done.hardware["device"] == "cpu"
    assert "model: Linear with 5 parameters, 5 of them trained" in done.spec
    assert 0 <= done.seconds < 600


def test_numbers_that_json_does_not_have_are_kept(tmp_path):
    values = {"a": math.inf, "b": -math.inf, "c": 1e-320, "d": 0.1}
    path = tmp_path / "run.json"
    path.write_text(RunRecord(status="running", framework="x", metrics={**values, "e": math.nan}).to_json())
    found = dict(read_record(tmp_path).metrics)
    assert math.isnan(found.pop("e"))
    assert found == values
    json.loads(path.read_text(), parse_constant=pytest.fail)


ENDS = {
    "failed": (RuntimeError("out of memory"), "RuntimeError"),
    "interrupted": (KeyboardInterrupt(), "KeyboardInterrupt"),
}


@pytest.mark.parametrize(("status", "error", "kind"), [(one, *given) for one, given in ENDS.items()], ids=ENDS)
def test_an_error_is_kept_with_its_traceback(status, error, kind, tmp_path):
    begin_record(tmp_path, **GIVEN)
    with pytest.raises(type(error)) as caught:
        raise error
    done = end_record(tmp_path, caught.value)
    assert (done.status, done.error["type"], done.error["message"]) == (status, kind, str(error))
    assert "test_record.py" in done.error["traceback"]
    assert read_record(tmp_path) == done


def test_warnings_are_counted_and_limited(tmp_path):
    begin_record(tmp_path, **GIVEN)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(300):
            warnings.warn("again", stacklevel=1)
            warnings.warn(f"number {number}", FutureWarning, stacklevel=1)
    done = end_record(tmp_path, fitted(), [*caught, "a text", "x" * 100_000])
    assert done.warnings[0] == {"category": "UserWarning", "message": "again", "count": 300}
    assert len(done.warnings) == record_module._MOST_WARNINGS
    done = end_record(tmp_path, fitted(), ["x" * 100_000])
    assert len(done.warnings[0]["message"]) == record_module._LONGEST


KILLED = """
import os, signal, sys
from unitrain.reports.run.record import begin_record
begin_record(sys.argv[1], config="", spec="", framework="reference", seed=None)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_a_killed_run_has_a_record_that_says_so(tmp_path):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), tmp_path], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    found = read_record(tmp_path)
    assert (found.status, alive(found)) == ("running", False)


def test_another_machines_process_is_not_looked_for(tmp_path):
    made = begin_record(tmp_path, **GIVEN)
    there = RunRecord(**{**vars(made), "hardware": {"host": "elsewhere"}})
    assert alive(there) is None
    for process in (None, 0, -1, 1 << 62):
        assert not alive(RunRecord(**{**vars(made), "process": process}))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_process_that_nobody_waited_for_is_dead(tmp_path):
    made = begin_record(tmp_path, **GIVEN)
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and stays a zombie
    assert is_alive(child.pid, made.hardware["host"], made.started) is False
    child.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_process_with_the_same_number_is_another(tmp_path):
    made = begin_record(tmp_path, **GIVEN)
    long_ago = "2020-01-01T00:00:00+00:00"
    assert is_alive(made.process, made.hardware["host"], long_ago) is False
    assert is_alive(made.process, made.hardware["host"], "no time") is True


def test_a_record_is_never_begun_twice(tmp_path):
    begin_record(tmp_path, **GIVEN)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ConfigError, match="already exists"):
        begin_record(tmp_path, **{**GIVEN, "seed": 4})
    assert (tmp_path / "run.json").read_bytes() == before


def test_secrets_are_not_written(tmp_path):
    config = """
loggers:
- api_key: hush1
  WANDB_API_KEY: hush2
  password : hush3
  uri: https://me:hush4@host/x
tokenizer: gpt
"""
    made = begin_record(tmp_path, **{**GIVEN, "config": config, "spec": "hparams:\n  secret: hush5"})
    assert "hush" not in (tmp_path / "run.json").read_text()
    assert "tokenizer: gpt" in made.config
    assert "https://host/x" in made.config


def test_secrets_of_errors_and_warnings_are_not_written(tmp_path):
    begin_record(tmp_path, **GIVEN)
    with pytest.raises(OSError, match="cannot connect") as caught:
        raise OSError("cannot connect to https://me:hush1@host; api_key=hush2")
    end_record(tmp_path, caught.value, ["token: hush3 of https://hush4@host"])
    told = (tmp_path / "run.json").read_text()
    assert "cannot connect to https://host; api_key=***" in told
    assert not re.findall("hush", told)  # in the quoted line of the traceback too


HOSTILE = {
    "no JSON": b"{",
    "binary": bytes(range(256)),
    "empty": b"",
    "a list": b"[]",
    "nested": b"[" * 100_000,
    "an integer of many digits": b'{"schema": 1, "seed": ' + b"9" * 5000 + b"}",
    "no schema": b"{}",
    "a newer schema": b'{"schema": 2}',
    "a schema that is true": b'{"schema": true}',
    "no status": b'{"schema": 1, "framework": "x"}',
}
WRONG = {
    "status": ["done", None, []],
    "framework": [None, 3, {}],
    "seed": ["1", 1.5, True, 1 << 70],
    "config": [None, ["x"]],
    "metrics": [[], {"a": "b"}, {"a": None}, {"a": [1]}, {"a": True}],
    "history": [{}, [1], [{"a": {}}]],
    "times": [[["x"]]],
    "profile": [{"a": 1}],
    "warnings": [["x"], [{"message": "x"}], [{"category": "x", "message": "x", "count": "1"}]],
    "error": ["x", {"type": 3}],
    "hardware": [{"host": 1}],
    "git": [[]],
    "process": ["1"],
}


def refused(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ConfigError, match="is not the record of a run") as caught:
        read_record(tmp_path)
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_record_is_refused(content, tmp_path):
    refused(tmp_path, content)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_value_of_a_wrong_type_is_refused_by_its_name(name, value, tmp_path):
    content = {"schema": 1, "status": "running", "framework": "x", name: value}
    assert f"{name}: expected" in refused(tmp_path, json.dumps(content).encode())


def test_fields_of_later_releases_are_dropped_and_others_optional():
    found = RunRecord.from_json('{"schema": 1, "status": "running", "framework": "x", "later": {"a": [1]}}')
    assert found == RunRecord(status="running", framework="x")


def test_each_field_has_a_form():
    assert {*record_module._FORMS} == {*RunRecord.__dataclass_fields__} - {"schema"}


def test_a_large_file_is_not_read(tmp_path, monkeypatch):
    begin_record(tmp_path, **GIVEN)
    monkeypatch.setattr(record_module, "_LARGEST_FILE", 100)
    with pytest.raises(ConfigError, match="too large"):
        read_record(tmp_path)


def test_no_record_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_record(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read"):
        end_record(tmp_path, fitted())


def git(folder, *arguments):
    mine = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", "-C", folder, *mine, *arguments], check=True, capture_output=True)


def test_the_commit_of_the_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert surroundings.git(tmp_path) is None
    git(tmp_path, "init", "-b", "work")
    assert surroundings.git(tmp_path) is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "first")
    found = surroundings.git(tmp_path)
    assert len(found["commit"]) == 40
    assert (found["branch"], found["changed_files"]) == ("work", "0")
    (tmp_path / "a").write_text("2")
    assert surroundings.git(tmp_path)["changed_files"] == "1"


def test_a_repository_cannot_start_a_program(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "first")
    program = tmp_path / "monitor"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'marker'}\n")
    program.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(program))
    git(tmp_path, "update-index", "--fsmonitor")
    git(tmp_path, "status")
    (tmp_path / "marker").unlink()  # the negative control: it was there
    assert surroundings.git(tmp_path) is not None
    assert not (tmp_path / "marker").exists()


def test_without_git_there_is_no_commit(monkeypatch):
    monkeypatch.setattr(surroundings, "_GIT", (str(Path("no") / "such" / "git"),))
    assert surroundings.git() is None
