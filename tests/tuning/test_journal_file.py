"""Our journal in a file: it loses no record in silence, survives a half-written one, and shares its file with Optuna."""

import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from unitrain import ConfigError
from unitrain.compat.optuna import make_storage
from unitrain.compat.optuna_file import FileJournal
from unitrain.tuning.storage.at_once import add_trials

RECORD = {"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"n": 1}}
TOO_LARGE = """
import signal, sys
from resource import RLIMIT_FSIZE, setrlimit
from tests.tuning.test_journal_file import RECORD, journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
one = journal(sys.argv[1])
one.append_logs([RECORD])
setrlimit(RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
one.append_logs([RECORD] * 9)
"""


def journal(path):
    return FileJournal(str(path), JournalFileSymlinkLock)


def numbered(*numbers):
    return [{**RECORD, "user_attr": {"n": number}} for number in numbers]


def test_optunas_own_backend_reads_what_ours_wrote_and_the_other_way_round(tmp_path):
    path = tmp_path / "study.log"
    ours = make_storage(f"journal://{path}")
    optuna.create_study(study_name="s", storage=ours).add_trial(optuna.trial.create_trial(value=1.0))
    theirs = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    optuna.load_study(study_name="s", storage=theirs).add_trial(optuna.trial.create_trial(value=2.0))
    assert [one.value for one in optuna.load_study(study_name="s", storage=ours).trials] == [1.0, 2.0]


def test_only_what_is_new_is_read(tmp_path):
    path = tmp_path / "study.log"
    reader, writer = journal(path), journal(path)
    writer.append_logs(numbered(0, 1))
    assert list(reader.read_logs(0)) == numbered(0, 1)
    writer.append_logs(numbered(2))
    assert list(reader.read_logs(2)) == numbered(2)
    assert list(reader.read_logs(3)) == []
    assert list(reader.read_logs(1)) == numbered(1, 2), "from an older number on"
    assert list(reader.read_logs(3)) == []


def test_a_reader_that_stops_continues_after_the_record_it_has_got(tmp_path):
    one = journal(tmp_path / "study.log")
    one.append_logs(numbered(0, 1, 2))
    assert next(one.read_logs(0)) == numbered(0)[0]
    assert list(one.read_logs(1)) == numbered(1, 2)


LOSSES = {
    "cut": lambda path: os.truncate(path, 10),
    "removed": lambda path: path.unlink(),
    "an older copy": lambda path: path.with_name("older").rename(path),
    "other records": lambda path: path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":7') * 2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_file_that_lost_records_is_noticed_before_anything_is_written(name, tmp_path):
    path = tmp_path / "study.log"
    journal(path.with_name("older")).append_logs(numbered(0))
    one = journal(path)
    one.append_logs(numbered(0, 1))
    assert len(list(one.read_logs(0))) == 2
    LOSSES[name](path)
    before = path.read_bytes() if path.exists() else None
    with pytest.raises(ConfigError, match="it lost records that this process has read"):
        one.append_logs(numbered(2))
    with pytest.raises(ConfigError, match="it lost records"):
        list(one.read_logs(2))
    assert (path.read_bytes() if path.exists() else None) == before


@pytest.mark.parametrize("name", ["cut", "an older copy"])
def test_optunas_own_loses_them_in_silence(name, tmp_path):
    path = tmp_path / "study.log"
    JournalFileBackend(str(path.with_name("older"))).append_logs(numbered(0))
    one = JournalFileBackend(str(path))
    one.append_logs(numbered(0, 1))
    assert len(list(one.read_logs(0))) == 2
    LOSSES[name](path)
    assert list(one.read_logs(2)) == []
    one.append_logs(numbered(2))


@pytest.mark.parametrize("rest", [b'{"op_code":2,"wor', b"{"])
def test_a_record_whose_writer_died_in_the_middle_is_neither_read_nor_joined_to_the_next(rest, tmp_path):
    path = tmp_path / "study.log"
    one, other = journal(path), journal(path)
    one.append_logs(numbered(0))
    with path.open("ab") as file:
        file.write(rest)
    assert list(one.read_logs(0)) == list(other.read_logs(0)) == numbered(0)
    one.append_logs(numbered(1))
    assert list(one.read_logs(1)) == list(other.read_logs(1)) == numbered(1)
    assert list(journal(path).read_logs(0)) == numbered(0, 1)


def test_a_file_of_nothing_but_such_a_record_is_one_without_records(tmp_path):
    path = tmp_path / "study.log"
    path.write_bytes(b'{"op_')
    one = journal(path)
    assert list(one.read_logs(0)) == []
    one.append_logs(numbered(0))
    assert list(one.read_logs(0)) == numbered(0)


@pytest.mark.parametrize("more", [1, 40, 200])
def test_records_that_do_not_fit_on_the_disk_are_all_taken_back(more, tmp_path):
    path = tmp_path / "study.log"
    journal(path.with_name("same")).append_logs([RECORD])
    length = path.with_name("same").stat().st_size
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TOO_LARGE, str(path), str(length + more)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert path.stat().st_size == length
    assert list(journal(path).read_logs(0)) == [RECORD]


def test_a_damaged_record_is_named(tmp_path):
    path = tmp_path / "study.log"
    journal(path).append_logs(numbered(0, 1, 2))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{nothing}\n" + lines[2])
    with pytest.raises(ConfigError, match=r"line 2 of the study file .*study\.log is damaged"):
        list(journal(path).read_logs(0))


def test_it_says_where_it_is(tmp_path):
    assert repr(journal(tmp_path / "study.log")) == f"FileJournal({str(tmp_path / 'study.log')!r})"
    assert Path(tmp_path / "study.log").exists()


@pytest.mark.parametrize("storage", ["journal", "redis"], indirect=True)
def test_whoever_filled_a_study_sees_at_once_what_others_do(storage, tmp_path):
    ours, name = make_storage(storage), f"filled-{tmp_path.name}"
    made = optuna.create_study(study_name=name, storage=ours)
    add_trials(made, [optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)] * 3)
    other = optuna.load_study(study_name=name, storage=make_storage(storage))
    for one in other.get_trials(deepcopy=False):
        other.tell(other.ask(), one.number)
    assert [one.state.name for one in made.get_trials(deepcopy=False)] == ["COMPLETE"] * 3
