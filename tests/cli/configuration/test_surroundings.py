"""What surrounds the commands: help, completion, the page, several processes, signals."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch

from tests.cli.configuration.conftest import everything
from unitrain import TrainerConfig, __version__, load_weights
from unitrain.cli import commands, main
from unitrain.cli.configuration.run_folders import new_run

ROOT = Path(__file__).parents[3]
MAIN = "import sys; from unitrain.cli import main; sys.exit(main())"


def test_help_is_quick_and_imports_no_framework():
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", MAIN, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "unitrain" in imported
    assert not imported & {"torch", "pytorch_lightning", "ignite", "jsonargparse", "yaml", "shtab", "rich", "packaging"}
    assert spent < 0.3, "seconds of the processor"
    assert "fit" in done.stdout


def test_without_a_command_the_commands_are_listed(capsys):
    for given in ([], ["--help"]):
        with pytest.raises(SystemExit) as ended:
            main(given)
        assert ended.value.code == 0
        assert "train what YAML files describe" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"unitrain {__version__}\n")


def test_output_that_nobody_reads_ends_the_command():
    line = f'"{sys.executable}" -c "{MAIN}" completion bash | true; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_broken_pipe_of_a_run_is_an_error(monkeypatch):
    from unitrain.cli import completion

    def broken(_):
        raise BrokenPipeError("of a worker")

    monkeypatch.setattr(completion, "run", broken)
    with pytest.raises(BrokenPipeError, match="of a worker"):
        main(["completion", "bash"])


@pytest.mark.parametrize(("name", "told"), [("completion", "warning: beware\n"), ("run", ": UserWarning: beware\n")])
def test_warnings_of_unitrain_have_no_line_of_its_code(name, told):
    with commands._short_warnings(name):
        shown = warnings.formatwarning("beware", UserWarning, commands.__file__, 1)
        assert ": UserWarning: beware\n" in warnings.formatwarning("beware", UserWarning, __file__, 1)
    assert shown == told or told in shown
    assert ": UserWarning: beware\n" in warnings.formatwarning("beware", UserWarning, commands.__file__, 1)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_help_lists_the_keys(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--trainer.{name} " in shown for name in TrainerConfig.__dataclass_fields__ if name != "seed")
    assert "run only files that you trust" in shown


def test_bash_completes_keys_of_the_trainer(tmp_path, capsys):
    assert main(["completion", "bash"]) == 0
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)

    def completed(*words):
        line = f"source ./completion.bash; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1};"
        call = f'_shtab_unitrain unitrain "{words[-1]}" "{words[-2]}"; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", line + call], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert completed("unitrain", "fit", "--trainer.max_") == [
        "--trainer.max_epochs",
        "--trainer.max_steps",
        "--trainer.max_time",
    ]
    assert completed("unitrain", "predict", "--out") == ["--output"]
    assert completed("unitrain", "val") == ["validate"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "trainer.max_epochs" in capsys.readouterr().out


def test_no_two_runs_share_a_folder(tmp_path):
    class Plain:
        text = "seed: 1\n"

    made = []
    threads = [threading.Thread(target=lambda: made.append(new_run(tmp_path, Plain(), "").path)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(path.name) for path in made) == list(range(1, 17))


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs/cli.md").read_text(), re.DOTALL)


def test_the_configuration_of_the_page_is_valid(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "digits", raising=False)
    Path("digits.py").write_text(blocks("python")[0])
    Path("run.yaml").write_text(blocks("yaml")[0])
    assert main(["fit", "--config", "run.yaml", "--print_config"]) == 0
    assert "max_epochs: 5" in capsys.readouterr().out


@pytest.mark.slow
def test_the_page_says_what_happens(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "digits", raising=False)
    module, program = blocks("python")
    Path("digits.py").write_text(module)
    Path("run.yaml").write_text(blocks("yaml")[0])
    assert main(["fit", "--config", "run.yaml"]) == 0
    assert main(["test", "--config", "runs/1/config.yaml", "--ckpt_path", "best"]) == 0
    Path("program.py").write_text(f"{module}\n{program}\ntorch.save(spec.model.state_dict(), 'program.pt')")
    subprocess.run([sys.executable, "program.py"], check=True, timeout=200, capture_output=True)
    one, other = load_weights("runs/1/checkpoints/last.ckpt"), torch.load("program.pt", weights_only=True)
    assert all(torch.equal(one[name], other[name]) for name in other)
    (said,) = re.findall(r"^(unitrain fit: .*\nHint: .*)$", blocks("text")[0], re.MULTILINE)
    Path("run.yaml").write_text(
        blocks("yaml")[0].replace("max_epochs", "max_epoch").replace("seed: 0\n", "seed: 0\n\n")
    )
    capsys.readouterr()
    assert main(["fit", "--config", "run.yaml"]) == 1
    assert capsys.readouterr().err.strip() == said


@pytest.mark.slow
def test_several_processes_write_one_folder(project):
    paths = os.pathsep.join(one for one in sys.path if one)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--standalone",
        "-m",
        "unitrain",
    ]
    arguments = ["fit", "--config", "run.yaml", "--framework", "ignite", "--trainer.devices", "2"]
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one.name for one in (project / "runs").iterdir()] == ["1"]
    assert {one.name for one in project.iterdir()} <= {"runs", "run.yaml", "tiny.py", "__pycache__"}
    assert json.loads((project / "runs/1/run.json").read_text())["status"] == "finished"
    assert (project / "runs/1/checkpoints/last.ckpt").exists()
    assert done.stdout.count("stopped by max_epochs") == 1


@pytest.mark.slow
def test_several_processes_need_a_seed(project, typed):
    (project / "run.yaml").write_text((project / "run.yaml").read_text().replace("seed: 7\n", ""))
    before = everything(project)
    world = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29512"}
    assert "several processes need the same seed" in typed("fit", "--config", "run.yaml", expected=1, **world).stderr
    assert everything(project) == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "a signal"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_leaves_a_run_that_is_resumed(project, typed, number, name):
    (project / "slowly.py").write_text(
        "import time, pathlib\n\ndef rate(output, target):\n    pathlib.Path('begun').touch()\n    time.sleep(0.05)\n    return 0.0\n"
    )
    fit = ("fit", "--config", "run.yaml", "--spec.metrics.slow", "slowly.rate", "--trainer.callbacks", "[]")
    typed(*fit, "--trainer.max_epochs", 8)
    (project / "begun").unlink()
    paths = os.pathsep.join(one for one in sys.path if one)
    command = [sys.executable, "-c", MAIN, *fit, "--trainer.max_epochs", "8"]
    process = subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": paths}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not (project / "begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"{name} stopped the run before its end." in errors.decode()
    assert json.loads((project / "runs/2/run.json").read_text())["status"] == "interrupted"
    hint = re.search(r"Hint: unitrain (fit --config runs/2/config.yaml --ckpt_path last) resumes it", errors.decode())
    typed(*hint[1].split())
    one, other = (load_weights(f"runs/{number}/checkpoints/last.ckpt") for number in (1, 3))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["lightning", "ignite"])
def test_a_lightning_module_is_a_spec(project, run, framework):
    (project / "lit.py").write_text(LIT)
    (project / "lit.yaml").write_text(
        "seed: 1\ntrainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false}\nspec: {class_path: lit.Lit, init_args: {width: 3}}\n"
        "data: {class_path: tiny.pair}\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, of small data and of other folders
        assert run("fit", "--config", "lit.yaml", "--framework", framework)[0] == 0
        record = json.loads((project / "runs/1/run.json").read_text())
        assert (record["status"], record["step"]) == ("finished", 2)
        assert (project / record["last_checkpoint"]).exists()
        status, out, _ = run("validate", "--config", "runs/1/config.yaml", "--ckpt_path", "last")
    assert status == 0
    assert "val_loss" in out


LIT = """
import torch
import pytorch_lightning as pl

class Lit(pl.LightningModule):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 3))

    def training_step(self, batch, index):
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
"""
