"""`unitrain run`: what it hands to a script, what it refuses, and what it says of a script that it did not redirect."""

import subprocess
import sys
import textwrap

import pytest

from unitrain import cli

TRAINS = """
import sys
import torch
from ignite.engine import Engine

if __name__ == "__main__":
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(engine, batch):
        optimizer.zero_grad()
        loss = model(batch).pow(2).mean()
        loss.backward()
        optimizer.step()

    Engine(step).run([torch.ones(3, 2)] * 2, max_epochs=int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    print(sys.argv, __name__, round(model.bias.item(), 4))
"""
EVALUATES = """
import torch
import pytorch_lightning as pl

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def test_step(self, batch, batch_idx):
        self.log("score", self.layer(batch).sum())

options = dict(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
print(sorted(pl.Trainer(**options).test(Net(), torch.utils.data.DataLoader(torch.ones(4, 2)), verbose=False)[0]))
"""
REFUSED = """
import torch
import pytorch_lightning as pl

trainer = pl.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False
)
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="train.py"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        return name

    return write


@pytest.mark.parametrize("framework", ["reference", "lightning", "ignite"])
@pytest.mark.parametrize(
    "given", ["--framework {} -- --epochs 3", "--framework {} --epochs 3", "--epochs 3 --framework {}"]
)
def test_a_script_gets_its_arguments_and_is_main(given, framework, script, capsys):
    before = sys.argv, sys.path[:]
    assert cli.main(["run", script(TRAINS), *given.format(framework).split()]) == 0
    out = capsys.readouterr().out
    assert out.startswith("['train.py', '--epochs', '3'] __main__")
    assert (sys.argv, sys.path) == before


def test_a_script_finds_its_neighbours(script, capsys):
    script("ANSWER = 42\n", "neighbour_of_a_script.py")
    text = TRAINS + "\nfrom neighbour_of_a_script import ANSWER\nprint(ANSWER)\n"
    assert cli.main(["run", "--framework", "reference", script(text)]) == 0
    assert capsys.readouterr().out.endswith("42\n")


@pytest.mark.parametrize("framework", ["reference", "lightning"])
def test_a_script_that_only_evaluates_counts(framework, script, capsys):
    assert cli.main(["run", script(EVALUATES), "--framework", framework]) == 0
    assert "['score']" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("print('nothing')", "nothing was redirected"),
        ("print('nothing')", "Does it train in processes of its own? They are not redirected."),
        ("import sys\nsys.exit(0)", "nothing was redirected"),
        (TRAINS.replace("Engine(step).run(", "[step(None, one) for one in "), "ran computations, but none of them"),
    ],
)
def test_a_script_of_which_nothing_ran_there_is_told_so(text, said, script, capsys):
    if "computations" in said:
        text = text.replace(", max_epochs=int(sys.argv[2]) if len(sys.argv) > 2 else 1)", "]")
    assert cli.main(["run", script(text), "--framework", "reference"]) == 4
    assert said in capsys.readouterr().err


def test_the_end_that_a_script_chooses_is_its_own(script):
    with pytest.raises(SystemExit) as end:
        cli.main(["run", script(TRAINS + "\nsys.exit(7)\n"), "--framework", "reference"])
    assert end.value.code == 7
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", script(TRAINS + "\n1 / 0\n"), "--framework", "reference"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nowhere.py", "--framework", "ignite"], "no such file"),
        ([".", "--framework", "ignite"], "it is a directory"),
        (["notes.txt", "--framework", "ignite"], "it is not a Python file"),
        (["train.py", "--framework", "ignit"], "did you mean"),
    ],
)
def test_what_cannot_be_run_is_refused(given, said, script, capsys):
    script(TRAINS)
    script("notes", "notes.txt")
    assert cli.main(["run", *given]) == 1
    assert said.lower() in capsys.readouterr().err.lower()


def test_a_refusal_tells_the_line_of_the_script(script, capsys):
    assert cli.main(["run", script(REFUSED), "--framework", "reference"]) == 1
    assert "train.py:5" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    out = capsys.readouterr().out
    assert "unitrain run train.py --framework ignite" in out
    assert "exit status" in out


@pytest.mark.slow
def test_a_process_of_its_own(script, tmp_path):
    command = [sys.executable, "-m", "unitrain", "run", script(TRAINS), "--framework", "lightning"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=True)
    assert "['train.py'] __main__" in done.stdout


@pytest.mark.slow
def test_to_load_a_framework_draws_no_random_number(tmp_path):
    program = """
        import random
        random.seed(0)
        before = random.getstate()
        from unitrain.backends.registry import bridges, find_adapter
        find_adapter("lightning"), find_adapter("ignite"), bridges()
        assert random.getstate() == before
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, timeout=200, check=True)
