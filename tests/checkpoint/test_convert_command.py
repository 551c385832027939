"""``unitrain convert``, as it is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unitrain import ConfigError, load_weights
from unitrain.checkpoint.convert.command import template_of
from unitrain.cli import main
from unitrain.testing.trace import differences

GOLDEN = Path(__file__).parent / "golden"
SOURCE = GOLDEN / "lightning-2.0.9.ckpt"
SCRIPT = """
import torch
from torch import nn
from unitrain import TrainSpec

def make_spec():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.05)
    schedule = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    return TrainSpec(model=model, loss=nn.CrossEntropyLoss(), optimizer=adam, lr_scheduler=schedule)

spec = make_spec()
number = 3
def needs(one): ...
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "my_training.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_training", raising=False)
    yield tmp_path
    sys.modules.pop("my_training", None)


@pytest.mark.parametrize("name", ["make_spec", "spec"])
def test_it_converts_and_tells_what_is_lost(name, folder, capsys):
    path = list(sys.path)
    assert main(["convert", str(SOURCE), "run.ckpt", "--to", "portable", "--model", f"my_training:{name}"]) == 0
    said = capsys.readouterr().out
    assert "run.ckpt is written, for portable." in said
    assert "It does not contain:" in said
    for line in (
        "- the states of the random number generators",
        "- the state of ModelCheckpoint",
        "- entries that are not part of the",
    ):
        assert line in said
    assert main(["convert", "run.ckpt", "back.pt", "--to", "ignite"]) == 0
    assert torch.load("back.pt", weights_only=True)["trainer"]["iteration"] == 6
    assert sys.path == path


def test_it_tells_what_a_file_is(folder, capsys):
    main(["convert", str(SOURCE), "run.ckpt", "--to", "portable", "--model", "my_training:spec"])
    main(["convert", str(SOURCE), "w.safetensors", "--to", "safetensors", "--part", "net"])
    capsys.readouterr()
    told = {}
    for file in (
        SOURCE,
        GOLDEN / "lightning-2.5.6-midway.ckpt",
        GOLDEN / "ignite-0.5.2.pt",
        "run.ckpt",
        "w.safetensors",
    ):
        before = Path(file).read_bytes()
        assert main(["convert", str(file), "--inspect"]) == 0
        told[Path(file).name] = capsys.readouterr().out
        assert Path(file).read_bytes() == before
    assert "Lightning's\n  written by Lightning 2.0.9\n  epochs done: 2; batches: 6; steps: 6" in told[SOURCE.name]
    assert "epochs done: 1, and 1 batches of the next" in told["lightning-2.5.6-midway.ckpt"]
    assert "Ignite's, {name: state_dict}" in told["ignite-0.5.2.pt"]
    assert "unitrain's own" in told["run.ckpt"]
    assert "weights only" in told["w.safetensors"]
    assert "with names starting with '0', '2'" in told["w.safetensors"]


REFUSED = {
    "nothing to do": (["x.pt"], "--to is missing"),
    "nowhere to write": ([], "DST is missing"),
    "inspect writes nothing": (["x.pt", "--inspect"], "dst would have no effect"),
    "no such module": (["x.pt", "--to", "ignite", "--model", "nowhere:spec"], "No module named 'nowhere'"),
    "no such name": (["x.pt", "--to", "ignite", "--model", "my_training:spce"], "did you mean 'spec'?"),
    "no name": (["x.pt", "--to", "ignite", "--model", "my_training"], "must be MODULE:NAME"),
    "needs arguments": (["x.pt", "--to", "ignite", "--model", "my_training:needs"], "without arguments"),
    "is a number": (["x.pt", "--to", "ignite", "--model", "my_training:number"], "without arguments"),
    "another thing": (
        ["x.pt", "--to", "ignite", "--model", "collections:OrderedDict"],
        "which is neither a TrainSpec nor a module",
    ),
    "ambiguous": (["x.pt", "--to", "ignite", "--part", "modle"], "they start with net, seen"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals(kind, folder, capsys):
    arguments, message = REFUSED[kind]
    assert main(["convert", str(SOURCE), *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("unitrain convert: ")
    assert message in said
    assert "\nHint: " in said
    assert not Path("x.pt").exists()


def test_an_error_of_the_script_is_its_own(folder):
    (folder / "my_training.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        template_of("my_training:spec")
    (folder / "my_training.py").write_text("import a_missing_library")
    with pytest.raises(ConfigError, match="No module named 'a_missing_library'"):
        template_of("my_training:spec")


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = capsys.readouterr().out
    for part in (
        "--to {lightning,ignite,safetensors,portable}",
        "--model train:make_spec",
        "show what a file contains",
    ):
        assert part in said


@pytest.mark.slow
def test_as_a_program(folder):
    code = "import sys; from unitrain.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "convert", str(SOURCE), "w.safetensors", "--to", "safetensors"]
    done = subprocess.run([*command, "--part", "net"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    state = torch.load(SOURCE, weights_only=False)["state_dict"]
    theirs = {key.removeprefix("net."): one for key, one in state.items() if key != "seen"}
    assert not differences(theirs, load_weights("w.safetensors"))
