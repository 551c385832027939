"""Malicious releases are told from their metadata: what they would do on import never happens."""

from __future__ import annotations

import warnings

import pytest
import torch

from tests.compat.planted import plant, python, ran
from unitrain import VersionError
from unitrain.compat import blocked

NAMES = ["pytorch-lightning", "lightning"]
SPEC = """
from functools import partial
import torch
import unitrain
net = torch.nn.Linear(2, 1)
spec = unitrain.TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
batches = [(torch.ones(3, 2), torch.ones(3, 1))] * 2
"""
FIT = (
    SPEC
    + """
for framework in {frameworks!r}:
    print(unitrain.UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False).fit(spec, batches).step)
"""
)


@pytest.fixture
def front(tmp_path):
    """Return a folder for planted packages."""
    folder = tmp_path / "front"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("name", "version"), [("pytorch-lightning", "2.6.2"), ("lightning", "2.6.3")])
def test_framework_lightning_is_refused_before_anything_of_it_is_imported(name, version, front):
    plant(front, name, version)
    done = python("-c", FIT.format(frameworks=["lightning"]), front=[front])
    assert done.returncode == 1
    assert f"VersionError: {name} {version} is a malicious upload (GHSA-w37p-236h-pfx3, CVE-2026-44484)" in done.stderr
    assert "Hint: " in done.stderr
    assert not ran(front)


def test_the_planted_package_would_have_run(front):
    plant(front, "pytorch-lightning", "2.6.6")  # negative control: a release that is not known to be bad
    assert python("-c", FIT.format(frameworks=["lightning"]), front=[front]).returncode == 77
    assert ran(front)


def test_a_framework_that_does_not_import_lightning_is_not_refused(front):
    plant(front, "pytorch-lightning", "2.6.2")
    plant(front, "lightning", "2.6.3")
    code = FIT.format(frameworks=["ignite", "reference"])
    done = python("-W", "ignore::DeprecationWarning", "-c", code, front=[front])
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["4", "4"], "")
    assert not ran(front)


def test_a_malicious_release_behind_a_good_one_is_refused_too(front, tmp_path):
    plant(front, "pytorch-lightning", "2.6.6", package=False)
    plant(tmp_path / "behind", "pytorch-lightning", "2.6.3")
    done = python("-c", FIT.format(frameworks=["lightning"]), front=[front, tmp_path / "behind"])
    assert "pytorch-lightning 2.6.3 is a malicious upload" in done.stderr
    assert not ran(tmp_path / "behind")


COMMANDS = {
    "run": ["run", "script.py", "--framework", "ignite"],
    "convert": ["convert", "old.ckpt", "new.ckpt", "--to", "portable", "--model", "script:make"],
    "convert a file of Lightning's": ["convert", "lightning.ckpt", "new.ckpt", "--to", "lightning"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_may_import_lightning_is_refused(command, front, tmp_path):
    plant(front, "pytorch-lightning", "2.6.2")
    (tmp_path / "script.py").write_text("import pytorch_lightning\ndef make(): pass\n")
    torch.save({"weight": torch.ones(1)}, tmp_path / "old.ckpt")
    lightning = {"state_dict": {"w": torch.ones(1)}, "pytorch-lightning_version": "1.9.5", "loops": {}}
    torch.save(lightning, tmp_path / "lightning.ckpt")
    done = python("-m", "unitrain", *COMMANDS[command], front=[front], cwd=tmp_path)
    assert done.returncode == 1
    assert "pytorch-lightning 2.6.2 is a malicious upload" in done.stderr
    assert not ran(front)
    assert not (tmp_path / "new.ckpt").exists()


def test_migrate_reads_scripts_and_imports_nothing(front, tmp_path):
    plant(front, "pytorch-lightning", "2.6.2")
    (tmp_path / "train.py").write_text("import pytorch_lightning as pl\ntrainer = pl.Trainer(gpus=1)\n")
    done = python("-m", "unitrain", "migrate", "train.py", "--to", "unitrain", front=[front], cwd=tmp_path)
    assert "Trainer" in done.stdout + done.stderr
    assert not ran(front)


# --- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "malicious"),
    [
        *[(version, True) for version in ("2.6.2", "2.6.3", "2.6.2+cpu", "2.6.3.dev1", "2.6.2.post1")],
        *[(version, False) for version in ("2.6.1", "2.6.6", "2.6.20", "no version")],
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_suffixes_do_not_hide_a_release(name, version, malicious):
    assert (blocked.advisory(name, version) is not None) is malicious
    assert blocked.advisory("pytorch-ignite", version) is None


@pytest.fixture
def installed(front, monkeypatch):
    """Return what plants metadata into this very process, in front of the real ones."""
    monkeypatch.syspath_prepend(str(front))

    def place(**versions):
        for name, version in versions.items():
            plant(front, name.replace("_", "-"), version, package=False)

    return place


def test_check_blocked_raises_for_what_is_planted_only(installed):
    blocked.check_blocked()
    installed(lightning="2.6.3")
    with pytest.raises(VersionError, match=r"lightning 2\.6\.3 .*malicious[\s\S]*pip install"):
        blocked.check_blocked()


@pytest.mark.parametrize(
    ("one", "other", "pin"),
    [
        ("2.6.6", "2.4.0", "==2.6.6"),
        ("2.5.6", "2.6.6.dev20261001", "==2.6.6"),
        ("2.6.6.dev1", "2.6.6", "==2.6.6"),
        ("2.6.2", "2.6.1", ">=2.6.6"),
        ("from the source", "2.6.6", "==2.6.6"),
    ],
)
def test_two_releases_side_by_side_are_told_with_the_command(installed, one, other, pin):
    installed(pytorch_lightning=one, lightning=other)
    with pytest.warns(UserWarning, match="are both installed") as caught:
        blocked.warn_mismatch()
    assert f"pytorch-lightning {one} and lightning {other}" in str(caught[0].message)
    assert str(caught[0].message).endswith(f"pip install 'pytorch-lightning{pin}' 'lightning{pin}'")


@pytest.mark.parametrize(("one", "other"), [("2.6.6", "2.6.6"), ("2.6.6+editable", "2.6.6"), ("odd", "odd")])
def test_the_same_release_is_no_mismatch(installed, one, other):
    installed(pytorch_lightning=one, lightning=other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        blocked.warn_mismatch()


def test_a_mismatch_warns_once_when_lightning_is_first_used(front):
    plant(front, "lightning", "2.4.0", package=False)
    code = "import unitrain\nfor _ in range(3): unitrain.UnifiedTrainer('lightning')"
    done = python("-c", code, front=[front])
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("are both installed") == 1
    assert "are installed" not in python("-c", code).stderr


def test_metadata_without_a_version_are_passed_over(front, monkeypatch):
    (front / "lightning-9.dist-info").mkdir()
    (front / "lightning-9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lightning\n")
    monkeypatch.syspath_prepend(str(front))
    assert None not in blocked.installed("lightning")
    blocked.check_blocked()
