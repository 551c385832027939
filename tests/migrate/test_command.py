"""The command itself: exit statuses, what is written and what is kept, reports."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from unitrain import cli
from unitrain.migrate import files

LIGHTNING = "import pytorch_lightning as pl\n\ntrainer = pl.Trainer(max_epochs=1)  # one\ntrainer.fit(model, data)\n"
IGNITE = "from ignite.engine import Engine\n\ndef step(engine, batch):\n    batch.backward()\n\nEngine(step).run(data, max_epochs=1)\n"
PERSON = "import pytorch_lightning as pl\n\npl.Trainer(**options).fit(model)\n"
NOTHING = "import torch\n\nprint(torch.zeros(1))\n"
BROKEN = "import pytorch_lightning as pl\n\ndef f(:\n    pass\n"
STATUSES = {
    "lightning": (LIGHTNING, 1),
    "ignite": (IGNITE, 1),
    "person": (PERSON, 2),
    "nothing": (NOTHING, 0),
    "broken": (BROKEN, 3),
}


class Done(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def migrate(monkeypatch, capsys):
    """Run the command as the console script does, in this process."""

    def run(*arguments, cwd):
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        try:
            status = cli.main(["migrate", *map(str, arguments)])
        except SystemExit as end:
            status = end.code
        return Done(status, *capsys.readouterr())

    return run


@pytest.mark.parametrize(("text", "status"), STATUSES.values(), ids=STATUSES)
def test_exit_statuses_of_the_real_command(tmp_path, text, status):
    (tmp_path / "train.py").write_text(text)
    command = [sys.executable, "-m", "unitrain", "migrate", "train.py", "--write"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    assert (done.returncode, done.stderr) == (status, "")
    assert (tmp_path / "train.py.orig").exists() is (status == 1)
    assert ((tmp_path / "train.py").read_text() != text) is (status == 1)


@pytest.mark.parametrize(("text", "status"), STATUSES.values(), ids=STATUSES)
def test_exit_statuses(tmp_path, text, status, migrate):
    path = tmp_path / "train.py"
    path.write_text(text)
    dry = migrate("train.py", cwd=tmp_path)
    assert dry.returncode == status, dry
    assert path.read_text() == text
    assert [one.name for one in tmp_path.iterdir()] == ["train.py"]
    assert ("--- a/train.py" in dry.stdout) is (status == 1)
    assert not dry.stderr
    done = migrate("train.py", "--write", cwd=tmp_path)
    assert done.returncode == status, done
    assert "--- a/" not in done.stdout
    kept = tmp_path / "train.py.orig"
    assert kept.exists() is (status == 1)
    assert (path.read_text() != text) is (status == 1)
    if status == 1:
        assert kept.read_text() == text
        assert migrate("train.py", "--write", cwd=tmp_path).returncode == 0
        assert kept.read_text() == text


def test_a_folder_and_its_reports(tmp_path, migrate):
    source = tmp_path / "src"
    for name in ("pkg", "pkg/.hidden", "pkg/__pycache__", "pkg/venv"):
        (source / name).mkdir(parents=True)
    for name, (text, _) in STATUSES.items():
        (source / "pkg" / f"{name}.py").write_text(text)
    for hidden in (".hidden", "__pycache__", "venv"):
        (source / "pkg" / hidden / "no.py").write_text(LIGHTNING)
    (source / "pkg" / "conf.yaml").write_text("trainer:\n  _target_: pytorch_lightning.Trainer\n  max_epochs: 1\n")
    (source / "pkg" / "other.yaml").write_text("model:\n  _target_: mine.Trainer\n")
    done = migrate("src", "--write", "--report", "out.json", "--to", "ignite", cwd=tmp_path)
    assert done.returncode == 3
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["status"] == 3
    assert {Path(one["file"]).name: one["status"] for one in report["files"]} == {
        "broken.py": 3,
        "conf.yaml": 2,
        "ignite.py": 1,
        "lightning.py": 1,
        "person.py": 2,
    }
    for one in report["files"]:
        for entry in one["entries"]:
            assert {"file", "line", "rule", "severity", "reason", "fix", "cell"} == set(entry)
            assert (
                f"{entry['file']}:{entry['line']} {entry['rule']} {entry['severity']}: {entry['reason']}" in done.stdout
            )
    changed = {path.name for path in source.rglob("*.orig")}
    assert changed == {"ignite.py.orig", "lightning.py.orig"}
    assert 'framework="ignite"' in (source / "pkg" / "lightning.py").read_text()
    assert 'framework="ignite"' in (source / "pkg" / "ignite.py").read_text()
    assert "2 files rewritten, 2 to fix by hand, 1 unreadable" in done.stdout
    table = migrate("src", "--report", "out.md", cwd=tmp_path)
    assert table.returncode == 3
    lines = (tmp_path / "out.md").read_text().splitlines()
    assert any(line.startswith("| src/pkg/person.py:3 | lightning-trainer | person |") for line in lines)


DEAD = """\
import lightning as L

class Noise(L.Callback):
    def on_epoch_end(self, trainer, module):
        super().on_epoch_end(trainer, module)

class Model(L.LightningModule):
    def training_end(self, outputs):
        print(outputs)
"""


def test_a_change_of_behaviour_is_told_and_made_if_it_is_chosen(tmp_path, migrate):
    path, report = tmp_path / "dead.py", tmp_path / "out.json"
    path.write_text(DEAD)
    done = migrate("dead.py", "--write", "--report", "out.json", cwd=tmp_path)
    assert done.returncode == 0
    assert path.read_text() == DEAD
    entries = json.loads(report.read_text())["files"][0]["entries"]
    assert [(one["line"], one["severity"]) for one in entries] == [(4, "behaviour"), (8, "behaviour")]
    assert "no longer calls the hook on_epoch_end" in entries[0]["reason"]
    assert entries[0]["fix"].startswith("left as it is; --behaviour lightning-hooks: on_train_epoch_end")
    done = migrate("dead.py", "--write", "--behaviour", "lightning-hooks", cwd=tmp_path)
    assert done.returncode == 1
    once = path.read_text()
    assert once == DEAD.replace("on_epoch_end", "on_train_epoch_end")
    assert "dead.py:4 lightning-hooks behaviour:" in done.stdout
    assert migrate("dead.py", "--write", "--behaviour", "all", cwd=tmp_path).returncode == 1
    assert "self.training_step_outputs.append" in path.read_text()


def test_a_chosen_change_that_cannot_be_made_is_left_for_a_person(tmp_path, migrate):
    (tmp_path / "called.py").write_text(DEAD + "        self.training_end(outputs)\nNoise().on_epoch_end(1, 2)\n")
    assert migrate("called.py", cwd=tmp_path).returncode == 0
    done = migrate("called.py", "--behaviour", "all", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout.count(" person: ") == 2


def test_a_file_with_no_framework_is_named(tmp_path, migrate):
    (tmp_path / "a.py").write_text(NOTHING)
    done = migrate("a.py", cwd=tmp_path)
    assert done.returncode == 0
    assert "a.py:1 no-framework note: it imports no framework" in done.stdout
    assert "no-framework" not in migrate(".", cwd=tmp_path).stdout


def test_a_config_beside_a_script_that_reads_configs(tmp_path, migrate):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yaml").write_text("_target_: lightning.pytorch.Trainer\n")
    (tmp_path / "train.py").write_text("import hydra\nimport lightning as L\nm = hydra.utils.instantiate(cfg.model)\n")
    (tmp_path / "untouched.py").write_text(LIGHTNING)
    done = migrate("train.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "conf/a.yaml:1 config-target person:" in done.stdout
    assert "untouched" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "pass a script"),
        (("a.py", "--disable", "lightning-trainr"), "did you mean 'lightning-trainer'"),
        (("a.py", "--behaviour", "lightning-trainer"), "--behaviour takes all, lightning-hooks,"),
        (("a.py", "--report", "out.txt"), "FILE.json or FILE.md"),
        (("a.py", "--report", "no/out.md"), "no such directory"),
        (("a.py", "--write", "--diff"), "not allowed with"),
        (("a.py", "--write", "--check-backend", "ignite"), "writes nothing"),
        (("a.py", "--to", "keras"), "invalid choice"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path, arguments, word, migrate):
    (tmp_path / "a.py").write_text(LIGHTNING)
    done = migrate(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert word in done.stderr
    assert (tmp_path / "a.py").read_text() == LIGHTNING


def test_what_cannot_be_read(tmp_path, migrate):
    (tmp_path / "bytes.py").write_bytes(b"import lightning\n\xff\xfe")
    (tmp_path / "cookie.py").write_bytes(b"# coding: nonsense\nimport lightning\n")
    done = migrate("bytes.py", "cookie.py", "missing.py", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout.count("parse-error error: it cannot be read") == 3
    assert not done.stderr


def test_encodings_and_modes_stay(tmp_path, migrate):
    path = tmp_path / "latin.py"
    text = "#!/usr/bin/env python\n# -*- coding: latin-1 -*-\n# na\xefve\n" + LIGHTNING
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o755)
    assert migrate("latin.py", "--write", cwd=tmp_path).returncode == 1
    after = path.read_bytes().decode("latin-1")
    assert "na\xefve" in after
    assert "UnifiedTrainer" in after
    assert path.stat().st_mode & 0o777 == 0o755
    marked = tmp_path / "bom.py"
    marked.write_bytes(LIGHTNING.encode("utf-8-sig"))
    assert migrate("bom.py", "--write", cwd=tmp_path).returncode == 1
    assert marked.read_bytes().startswith(b"\xef\xbb\xbfimport pytorch_lightning")


def test_a_link_is_followed(tmp_path, migrate):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.py").write_text(LIGHTNING)
    (tmp_path / "a.py").symlink_to("real/a.py")
    assert migrate("a.py", "--write", cwd=tmp_path).returncode == 1
    assert (tmp_path / "a.py").is_symlink()
    assert (tmp_path / "real" / "a.py.orig").read_text() == LIGHTNING


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_write_that_breaks_off_leaves_the_original(tmp_path, monkeypatch, broken):
    path = tmp_path / "a.py"
    path.write_text(LIGHTNING)

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(*((files.os, "fsync") if broken == "fsync" else (files.Path, "replace")), fail)
    with pytest.raises(OSError, match="full"):
        files.write(path, files.Text("after", "utf-8"))
    assert path.read_text() == LIGHTNING
    assert [one.name for one in tmp_path.iterdir()] == ["a.py"]


def test_a_file_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    from tests.migrate.checks import families
    from unitrain.migrate import run
    from unitrain.migrate.findings import Goal

    (tmp_path / "a.py").write_text(LIGHTNING)

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(run, "write", fail)
    (report,) = run.migrate_files([tmp_path / "a.py"], families(), Goal(), write=True)
    assert (report.status, report.changed, report.kept) == (3, False, None)
    assert "the disk is full" in report.entries[0].reason


def test_without_libcst_it_says_what_to_install(tmp_path, monkeypatch, migrate):
    (tmp_path / "a.py").write_text(LIGHTNING)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "libcst" else find(name, *rest)
    )
    done = migrate("a.py", cwd=tmp_path)
    assert done.returncode == 3
    assert "pip install 'pytorch-unitrain[migrate]'" in done.stderr


def test_help_teaches_and_rules_are_listed(tmp_path, migrate):
    told = migrate("--help", cwd=tmp_path)
    assert told.returncode == 0
    for word in ("examples:", "--write", "exit status:", "# unitrain: trainer", "--check-backend ignite"):
        assert word in told.stdout
    listed = migrate("--list-rules", cwd=tmp_path)
    assert listed.returncode == 0
    assert {"lightning-trainer", "ignite-run", "torch-amp", "check-trainer-argument"} <= {
        line.split()[0] for line in listed.stdout.splitlines()
    }
