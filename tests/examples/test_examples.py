"""The examples are documentation that runs: each as a newcomer starts it, in a process and a folder of its own."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.monitoring_servers import program
from tests.servers import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = (
    "quickstart",
    "resume_elsewhere",
    "tabular_regression",
    "gan_digits",
    "char_lm",
    "two_processes",
    "tune_digits",
    "tune_redis",
    "tune_own_optuna",
    "serve_digits",
    "monitor_digits",
    "deploy_digits",
)
FRAMEWORKS = ("lightning", "ignite")
PNG = b"\x89PNG\r\n\x1a\n"


def run(folder, name, *arguments, status=0):
    """Run an example in ``folder``, its warnings of deprecation being errors, and return what it printed."""
    environment = {**os.environ, "COLUMNS": "120"}
    command = [sys.executable, "-W", "error::DeprecationWarning", str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=240, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def run_both(folder, name, *arguments):
    """Run an example on both frameworks; what they print must be equal but for the framework's name."""
    printed = {}
    for framework in FRAMEWORKS:
        printed[framework] = run(folder, name, "--framework", framework, *arguments)
        assert f"trained on {framework}" in printed[framework]
    lightning, ignite = (printed[framework].replace(framework, "FRAMEWORK") for framework in FRAMEWORKS)
    assert lightning == ignite
    return lightning


def number(text, pattern):
    found = re.search(pattern, text, flags=re.MULTILINE)
    assert found, f"{pattern} is not in:\n{text}"
    return float(found[1])


def first_and_last(text, name):
    """Return the numbers of a line ``name first -> last``."""
    return (number(text, rf"^{name} +(\S+) -> "), number(text, rf"^{name} +\S+ -> (\S+)$"))


def assert_picture(path):
    content = path.read_bytes()
    assert content.startswith(PNG)
    assert content.rstrip().endswith(b"IEND\xaeB`\x82")
    assert len(content) > 2_000


def load(name):
    """Import an example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test_here():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(NAMES)


HELPS = """
import os, runpy, sys
import torch, unitrain
folder, *names = sys.argv[1:]
for name in names:
    child = os.fork()
    if not child:
        sys.stdout = open(f"{name}.txt", "w")
        sys.argv = [f"{name}.py", "--help"]
        runpy.run_path(f"{folder}/{name}.py", run_name="__main__")
    if os.waitpid(child, 0)[1]:
        sys.exit(name)
"""
"""Each example's help from a copy of one process, so that torch is imported once."""


@pytest.fixture(scope="module")
def helps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("helps")
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", HELPS, str(EXAMPLES), *NAMES]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "COLUMNS": "120"},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_help_teaches(helps, name):
    text = (helps / f"{name}.txt").read_text("utf-8")
    assert text.startswith(f"usage: {name}.py")
    assert len(text.split("\n\n")[1]) > 25  # a sentence that says what it does
    assert "--framework" in text or "--then" in text
    assert "default" in text
    options = re.findall(r"^  -", text, flags=re.MULTILINE)
    explained = re.findall(r"^  -.*?(?: {2,}|\n {8,})\w", text, flags=re.MULTILINE)
    assert len(explained) == len(options) >= 3
    assert {one.name for one in helps.iterdir()} == {f"{one}.txt" for one in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_docstring_says_how_to_run_it(name):
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert f"    python examples/{name}.py\n" in text.split('"""')[1]


def test_quickstart_shows_equal_weights(tmp_path):
    text = run(tmp_path, "quickstart", "--epochs", 3)
    rows = {
        cells[0]: cells[1:]
        for line in text.splitlines()
        if line.startswith("│") and len(cells := [cell.strip() for cell in line.strip("│").split("│")]) == 5
    }
    assert list(rows) == ["lightning", "ignite", "reference"]
    assert [row[0] for row in rows.values()] == ["pytorch_lightning Trainer", "ignite Engine", "none"]
    assert len({tuple(row[1:3]) for row in rows.values()}) == 1  # the same accuracy and loss
    assert float(rows["ignite"][1]) > 0.9  # chance is 0.1
    assert text.splitlines()[-1] == "equal weights: yes"
    assert_picture(tmp_path / "quickstart.png")


def test_quickstart_takes_its_options(tmp_path):
    text = run(tmp_path, "quickstart", "--epochs", 1, "--frameworks", "reference", "ignite", "--plot", "other.png")
    assert text.index("reference") < text.index("ignite")
    assert "lightning" not in text
    assert_picture(tmp_path / "other.png")
    assert not (tmp_path / "quickstart.png").exists()


def test_quickstart_refuses_to_compare_one_framework_with_nothing(tmp_path):
    assert not run(tmp_path, "quickstart", "--frameworks", "ignite", status=2)


def test_quickstart_says_no_if_one_weight_of_one_framework_differs(tmp_path, monkeypatch, capsys):
    quickstart = load("quickstart")

    def tampered(framework, *arguments):
        trained = honest(framework, *arguments)
        if framework == "reference":
            with torch.no_grad():  # the last weight, by the smallest step that there is
                weight = trained.model[-1].bias[-1:]
                weight.copy_(torch.nextafter(weight, torch.tensor([torch.inf])))
        return trained

    honest = quickstart.train
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # not for the tests that follow in this process
    arguments = ["--epochs", "1", "--frameworks", "ignite", "reference", "--plot", str(tmp_path / "plot.png")]
    assert quickstart.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "equal weights: yes"
    monkeypatch.setattr(quickstart, "train", tampered)
    assert quickstart.main(arguments) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "equal weights: no"


def test_equal_weights_looks_at_every_model_and_at_buffers():
    equal_weights = load("quickstart").equal_weights
    models = [nn.BatchNorm1d(2) for _ in range(3)]
    assert equal_weights(models)
    models[2].running_mean[1] = 1e-30
    assert not equal_weights(models)
    assert not equal_weights([nn.Linear(2, 2, bias=False), nn.Linear(2, 2)])


@pytest.mark.slow
def test_tabular_regression_is_better_than_the_mean_and_the_same_on_both(tmp_path):
    text = run_both(tmp_path, "tabular_regression", "--epochs", 50)
    epochs = re.findall(r"^epoch +(\d+)", text, flags=re.MULTILINE)
    assert epochs == ["10", "20", "30", "40", "50"]  # Event.EPOCH_END(every=10)
    assert number(text, r"^val/r2 +(\S+)$") > 0.3  # the mean has 0
    assert number(text, r"^mean error (\S+)$") < 0.85 * number(text, r"^mean error (\S+) if")
    rates = [float(rate) for rate in re.findall(r"lr (\S+)$", text, flags=re.MULTILINE)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 1e-3  # the plateau was reached
    assert len(re.findall(r"^ +\d+\.\d +\d+$", text, flags=re.MULTILINE)) == 5


@pytest.mark.slow  # breadth: what it shows is tested in the fast tier elsewhere
def test_gan_draws_better_with_training_and_the_same_on_both(tmp_path):
    text = run_both(tmp_path, "gan_digits", "--epochs", 50)
    first, last = first_and_last(text, "drawings/distance")
    assert last < 0.5 * first
    assert all(value > 0.1 for value in first_and_last(text, "train/d_loss"))  # neither has won
    assert "1450 steps" in text  # one a batch, though two optimizers step: 29 batches, 50 epochs
    assert_picture(tmp_path / "gan_digits.png")


@pytest.mark.slow  # breadth: what it shows is tested in the fast tier elsewhere
def test_char_lm_learns_to_spell_and_writes_the_same_on_both(tmp_path):
    text = run_both(tmp_path, "char_lm", "--epochs", 2, "--prompt", "When I")
    for name in ("train/loss", "val/loss"):
        first, last = first_and_last(text, name)
        assert last < first
    assert first_and_last(text, "val/perplexity")[1] < 16  # chance is the alphabet, 62
    assert first_and_last(text, "val/acc")[1] > 0.2  # chance is 1/62; always a space is 0.16
    written = text.partition("\n\n")[2]
    assert written.startswith("When I")
    assert len(written.rstrip("\n")) > 200
    assert len(written.split()) > 20  # words of a plausible length


def test_char_lm_names_the_texts_if_there_is_none_of_the_name(tmp_path):
    command = [sys.executable, str(EXAMPLES / "char_lm.py"), "--text", "faust"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 1
    assert "'faust'" in done.stderr
    assert "hamlet" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("first", "then"), [("lightning", "ignite"), pytest.param("ignite", "lightning", marks=pytest.mark.slow)]
)
def test_a_killed_run_goes_on_elsewhere(first, then, tmp_path):
    command = [sys.executable, str(EXAMPLES / "resume_elsewhere.py"), "--first", first, "--then", then]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{first} was killed" in done.stdout
    assert done.stdout.splitlines()[-1] == "equal weights: yes"
    assert "Warning" not in done.stderr


@pytest.mark.slow  # breadth: what it shows is tested in the fast tier elsewhere
def test_two_processes_give_equal_weights_on_both_backends(tmp_path):
    text = run(tmp_path, "two_processes")
    lightning, ignite, last = text.splitlines()
    assert lightning.replace("lightning", "ignite") == ignite
    assert number(text, r"val/acc (\S+) after 69 steps of 2 x 32 samples") > 0.9
    assert last == "equal weights: yes"


@pytest.mark.slow
def test_a_study_in_a_file_is_continued(tmp_path):
    parts = [run(tmp_path, "tune_digits", "--framework", "reference", "--trials", trials) for trials in (3, 12)]
    assert "3 trials (3 complete)" in parts[0]
    assert "12 trials (" in parts[1]
    assert "pruned" in parts[1]
    assert number(parts[1], r"^\d+ +complete +(\S+)") > 0.9  # the best is the first
    assert Path(re.search(r"^best checkpoint: (.*)$", parts[1], re.MULTILINE)[1]).exists()
    assert_picture(tmp_path / "tune_digits.png")


@pytest.mark.slow
def test_a_study_in_a_file_is_the_same_when_continued_on_the_other_framework(tmp_path):
    text = {}
    for name, calls in {"whole": (("ignite", 12),), "cut": (("lightning", 4), ("ignite", 12))}.items():
        (tmp_path / name).mkdir()
        for framework, trials in calls:
            text[name] = run(tmp_path / name, "tune_digits", "--framework", framework, "--trials", trials)
    assert text["cut"].replace("/cut/", "/whole/") == text["whole"]


@pytest.mark.slow
def test_a_study_on_redis_survives_a_killed_worker(tmp_path):
    text = run(tmp_path, "tune_redis")
    assert re.search(r"the worker on lightning was killed in trial \d, after \d epochs", text), text
    assert text.splitlines()[-2:] == ["equal trials: yes", "equal weights: yes"]


@pytest.mark.slow
def test_own_optuna_code_has_the_same_trials_on_both(tmp_path):
    ignite, lightning = (run(tmp_path, "tune_own_optuna", "--framework", one) for one in FRAMEWORKS)
    assert ignite == lightning
    assert "pruned" in ignite
    assert number(ignite, r"^best: (\S+)") > 0.9


@pytest.mark.slow
def test_a_service_answers_the_same_bytes_on_both_backends(tmp_path):
    printed = run(tmp_path, "serve_digits")
    assert "the same bytes on both backends: True" in printed
    assert "on Engine" in printed


@pytest.mark.slow
def test_prometheus_beside_a_training_reads_the_same_on_both(tmp_path):
    program("prometheus")
    printed = [
        run(
            tmp_path,
            "monitor_digits",
            "--framework",
            one,
            "--epochs",
            2,
            "--port",
            free_port(),
            "--prometheus",
            free_port(),
        ).replace(one, "here")
        for one in FRAMEWORKS
    ]
    assert printed[0] == printed[1]
    assert "94 steps; Prometheus has read" in printed[0]
    assert number(printed[0], r"^val/acc +(\S+)$") > 0.8
    assert printed[0].splitlines()[-1] == "equal to the result: yes"


def test_without_prometheus_the_page_of_the_run_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # without any program
    text = run(tmp_path, "monitor_digits", "--framework", "reference", "--epochs", 1, "--port", free_port())
    assert "the page of the run has read" in text
    assert text.splitlines()[-1] == "equal to the result: yes"


@pytest.mark.slow
def test_a_deployment_is_replaced_under_load_on_both_backends(tmp_path):
    printed = run_both(tmp_path, "deploy_digits")
    assert "requests that failed: 0; some were answered: True" in printed
    assert number(printed, r"accuracy after 3 epochs: (\S+)") > number(printed, r"accuracy after one epoch: (\S+)")
    assert printed.endswith("digits: absent\n")
