"""Scripts that a worker cannot import: each is told how to change it, before a worker is blamed."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuning.studies import study
from unitrain import ConfigError

SCRIPT = Path(__file__).with_name("studies.py")


def two_workers(folder):
    return study(n_trials=2, storage=f"journal://{folder}/study.log", study_name="s", workers=2)


def test_a_script_from_a_pipe_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "<stdin>"), raising=False)
    with pytest.raises(ConfigError, match=r"a pipe(.|\n)*search\.py"):
        two_workers(tmp_path)


def test_an_unguarded_script_starts_no_workers_in_a_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match="__main__"):
        two_workers(tmp_path)


@pytest.mark.slow
def test_an_unguarded_script_is_told_to_guard_itself(tmp_path):
    code = SCRIPT.read_text().partition('\nif __name__ == "__main__"')[0]
    call = f'study(n_trials=2, storage="journal://{tmp_path}/study.log", study_name="s", workers=2)'
    (tmp_path / "search.py").write_text(f"{code}\n{call}\n")
    command = [sys.executable, "search.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == 'Hint: guard the code of the script with: if __name__ == "__main__":'
    assert "killed" not in done.stderr
