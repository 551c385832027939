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


NAMES = """
import inspect, os, sys
import torch
from ignite.engine import Engine

class Net(torch.nn.Linear): ...

if __name__ == "__main__":
    os.makedirs("outputs", exist_ok=True)
    os.chdir("outputs")
    print(os.path.isabs(__file__), sys.argv[0], __package__, type(__loader__).__name__, __annotations__)
    print(inspect.getsource(Net))
    optimizer = torch.optim.SGD(Net(1, 1).parameters(), 0.1)
    Engine(lambda engine, batch: optimizer.step()).run([0])
"""


def test_a_script_knows_itself_as_python_makes_it(script, tmp_path):
    """It may change its folder, as Hydra's do."""
    name = script(NAMES)
    command = [sys.executable, name], [sys.executable, "-m", "unitrain", "run", name, "--framework", "ignite"]
    plain, run = (
        subprocess.run(one, cwd=tmp_path, capture_output=True, text=True, check=True).stdout for one in command
    )
    assert run == plain


VARIABLES = {"FAST_DEV_RUN": "1", "MAX_STEPS": "1", "MAX_TIME": "00:00:00:00", "PRECISION": "64", "MAX_EPOCHS": "1"}


@pytest.mark.parametrize("name", VARIABLES)
def test_variables_of_lightnings_trainer_do_not_reach_another_script(name, script, capsys, monkeypatch):
    path = str(script(TRAINS))
    assert cli.main(["run", path, "--framework", "ignite", "--", "--epochs", "2"]) == 0
    wanted = capsys.readouterr().out
    monkeypatch.setenv(f"PL_TRAINER_{name}", VARIABLES[name])
    assert cli.main(["run", path, "--framework", "lightning", "--", "--epochs", "2"]) == 0
    assert capsys.readouterr().out == wanted


STOPPED = """
import os, signal, torch
from ignite.engine import Engine, Events
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
trainer = Engine(lambda engine, batch: (model(batch).sum().backward(), optimizer.step()) and None)
signal.signal(signal.SIGTERM, lambda signum, frame: (print("asked to stop"), trainer.terminate()))
trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: os.kill(os.getpid(), signal.SIGTERM))
trainer.add_event_handler(Events.COMPLETED, lambda: print("saved"))
trainer.run([torch.ones(1, 2)] * 4, max_epochs=2)
print("the end at", trainer.state.iteration)
"""


@pytest.mark.parametrize("framework", ["lightning", "ignite", "reference"])
def test_a_scripts_own_handler_of_a_signal_is_called_once(framework, script):
    command = [sys.executable, "-m", "unitrain", "run", str(script(STOPPED)), "--framework", framework]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "asked to stop\nsaved\nthe end at 2\n")


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
