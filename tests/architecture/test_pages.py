"""What the pages claim runs: the README's example, its commands, and the code that MIGRATION.md shows."""

import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

import unitrain
from tests.architecture.walks import Command, walk, walks

ROOT = Path(__file__).parents[2]
PYTHON_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

PRELUDE = """
from functools import partial
import warnings
import torch, pytorch_lightning as pl
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy
warnings.simplefilter("ignore")
from ignite.engine import Engine, Events, create_supervised_evaluator
from ignite.metrics import Accuracy, Loss
from unitrain import Event, TrainSpec, UnifiedTrainer, from_engine, from_step
Net = lambda: nn.Linear(6, 10)
data = TensorDataset(torch.randn(40, 6), torch.randint(0, 10, (40,)))
train_loader, val_loader = DataLoader(data, 8), DataLoader(data, 8)
model, criterion = Net(), nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), 0.1)
"""


SNIPPETS = "## Outdated snippets"  # run by tests/compat/test_snippets.py


PAGES = [
    "README.md",
    "MIGRATION.md",
    "DISTRIBUTED.md",
    "CONTRIBUTING.md",
    *(str(one.relative_to(ROOT)) for one in (ROOT / "docs").rglob("*.md")),
]
SCRIPTS = {
    "docs/start.md": (r"^0\.9\d+ max_epochs$", r"^<class '.*Engine'>$", "^True$", r"^epoch 1 accuracy 0\.\d+$", "^5$"),
    "docs/equal-bits.md": (r"^tensor\(0\.\) tensor\(1\.\)$", "^True$"),
    "docs/guides/lightning.md": (r"^<class '.*Engine'>$", "^True$"),
    "docs/guides/ignite.md": (r"^epoch 2 loss \d", r"^<class '.*Engine'> 16$", "^the first iteration$"),
    "docs/guides/team.md": (),
    "docs/reports.md": (),
}
"""Pages whose blocks are one script, and what it prints."""
OTHERS = {
    "README.md",
    "MIGRATION.md",
    "DISTRIBUTED.md",
    "docs/backends.md",  # tests/conformance/test_toy_backend.py and test_third_framework.py
    "docs/checkpoints.md",
    "docs/cli.md",  # tests/cli/configuration/test_surroundings.py
    "docs/compare.md",  # tests/comparison/test_docs.py
    "docs/deployment.md",
    "docs/export.md",
    "docs/monitoring.md",
    "docs/reference.md",
    "docs/serving.md",
    "docs/tuning.md",
}
"""Pages whose blocks have a test of their own."""


def blocks(page: str) -> list[str]:
    return PYTHON_BLOCK.findall((ROOT / page).read_text().partition(SNIPPETS)[0])


def run(code: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)


_SHOW = """
import hashlib
weights = b"".join(value.numpy().tobytes() for value in spec.model.state_dict().values())
print("numbers:", result.metrics, result.history, hashlib.sha256(weights).hexdigest())
"""


def test_readme_example_prints_the_same_numbers_on_every_backend(tmp_path):
    code, *_ = blocks("README.md")
    found = []
    for framework in ("ignite", "lightning", "reference"):
        done = run(code.replace('framework="ignite"', f'framework="{framework}"', 1) + _SHOW, tmp_path)
        assert done.returncode == 0, done.stderr
        told = re.findall(r"^(?:\d+ 0\.\d+|numbers: .*)$", done.stdout, re.MULTILINE)
        assert len(told) == 3  # the handler's two lines
        found.append(told)
    assert found[1:] == found[:-1]
    assert float(re.search(r"'val/acc': ([\d.]+)", found[0][-1])[1]) > 0.8


def test_the_example_of_resuming_runs(tmp_path):
    (first, *_), (second,) = blocks("README.md"), blocks("docs/checkpoints.md")
    done = run(f"{first}\n{second}\nprint(result.best_checkpoint)", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{tmp_path}/runs/digits/epoch=")


def test_the_example_of_exporting_runs(tmp_path):
    (first, *_), (second, third) = blocks("README.md"), blocks("docs/export.md")
    done = run(f"{first}\n{second}\n{third}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "digits.onnx" in done.stdout
    assert (tmp_path / "digits.onnx").exists()


@pytest.mark.parametrize("page", SCRIPTS)
def test_a_page_that_is_one_script_prints_what_it_says(page, tmp_path):
    done = run("\n".join(blocks(page)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert not [line for line in SCRIPTS[page] if not re.search(line, done.stdout, re.MULTILINE)], done.stdout


def test_each_page_with_code_is_run():
    assert {page for page in PAGES if blocks(page)} == {*SCRIPTS, *OTHERS}


@pytest.mark.slow
def test_code_about_tuning_runs(tmp_path):
    search, own = blocks("docs/tuning.md")
    (tmp_path / "search.py").write_text(f"{search}\n{own}")
    command = [sys.executable, "search.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert "study 'digits': 8 trials" in done.stdout
    assert (tmp_path / "study.png").exists()


_FIT = """
import torch
from unitrain import TrainSpec
spec = TrainSpec(
    model=torch.nn.Linear(4, 1), loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1), lr_scheduler=schedule
)
batches = [(torch.zeros(2, 4), torch.full((2, 1), 9.0))] * 3
trainer.fit(spec, batches)
print("rate:", trainer.optimizers["optimizer"].param_groups[0]["lr"])
"""


def test_code_in_the_reference_runs(tmp_path):
    found = blocks("docs/reference.md")
    assert len(found) == 2
    done = run("\n".join([*found, _FIT]), tmp_path)
    assert done.returncode == 0, done.stderr
    steps = [line for line in done.stdout.splitlines() if line.startswith("drifted again, at step")]
    assert steps == [f"drifted again, at step {step}" for step in (2, 4, 6)]
    rate = float(done.stdout.rpartition("rate:")[2])
    cosine = 0.1 * (1 + math.cos(math.pi * 6 / 1000)) / 2
    assert math.isclose(rate, cosine * 7 / 100, rel_tol=1e-9)  # the rate of step 6 (from 0), in warm-up


_TOGETHER = """
from pathlib import Path
from unitrain import ModelCheckpoint
if {ray}:
    import ray
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
spec = TrainSpec(model=model, loss=criterion, optimizer=partial(torch.optim.SGD, lr=0.1))
kept = ModelCheckpoint("kept", every_n_train_steps=2)
trainer = UnifiedTrainer("ignite", max_epochs=2, callbacks=[kept], enable_progress_bar=False)
trainer.fit(spec, train_loader)
trainer = UnifiedTrainer("ignite", max_epochs=3, enable_progress_bar=False)
"""


_TRAINED = """
import os, signal, threading
import torch, unitrain
from functools import partial
from torch import nn
from unitrain import TrainSpec, UnifiedTrainer
spec = TrainSpec(model=nn.Linear(4, 3), loss=nn.CrossEntropyLoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
trainer = UnifiedTrainer("ignite", max_epochs=1, enable_progress_bar=False)
rows = torch.zeros(2, 4)
trainer.fit(spec, [(rows, torch.tensor([0, 2]))])
def end_soon():
    threading.Timer(8, os.kill, (os.getpid(), signal.SIGTERM)).start()
def exported(*names):
    for name in names:
        trainer.export(name, example_input=rows)
"""


def test_code_about_serving_runs(tmp_path):
    (first, second) = blocks("docs/serving.md")
    server, served, engine = first.split("\n\n")
    assert served.count("unitrain.serve(") == 2
    done = run(
        f"{_TRAINED}\n{server.replace('8000', '0')}\nserver.stop()\nexported('model.onnx')\n{engine}\n{second}",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")


@pytest.mark.slow  # each service runs until the signal comes
def test_services_on_the_page_run_until_they_are_stopped(tmp_path):
    served = (
        blocks("docs/serving.md")[0].split("\n\n")[1].replace("8000", "0").replace("workers=2", "port=0, workers=2")
    )
    (tmp_path / "main.py").write_text(
        f"{_TRAINED}\nexported('model.onnx', 'digits.onnx', 'words.pt2')\n"
        + "".join(f"end_soon()\n{line}\n" for line in served.splitlines())
        + "print('both have ended')\n"
    )
    command = [sys.executable, "main.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "both have ended"


def test_code_about_monitoring_runs(tmp_path):
    found = blocks("docs/monitoring.md")
    assert len(found) == 2
    done = run("\n".join([PRELUDE, *found]), tmp_path)
    assert done.returncode == 0, done.stderr


def test_code_about_deployment_runs(tmp_path, monkeypatch):
    bundled, deployed, sagemaker = blocks("docs/deployment.md")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    first, *others = bundled.splitlines()
    told = [line for line in others if line.startswith("print")]
    bundling = "".join(f"shutil.rmtree('out', ignore_errors=True)\n{line}\n" for line in (first, others[0]))
    code = "\n".join([_TRAINED, "import shutil\nexported('digits.onnx')", bundling, *told, deployed])
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert " True" in done.stdout
    assert 'provider="aws"' in sagemaker  # run in tests/deployment/aws/test_deploy.py


@pytest.mark.parametrize("index", [1, *(pytest.param(index, marks=pytest.mark.slow) for index in (0, 2, 3))])
def test_code_about_several_processes_runs(index, tmp_path):
    found = blocks("DISTRIBUTED.md")
    assert len(found) == 4
    code = found[index].replace("num_workers=4, use_gpu=True", "num_workers=2")
    code = code.replace("devices=2", "accelerator='cpu', devices=2")
    prelude = PRELUDE.replace("import torch,", "import os; os.environ['OMP_NUM_THREADS'] = '1'\nimport torch,")
    done = run(prelude + _TOGETHER.format(ray=index == 2) + code, tmp_path)
    assert done.returncode == 0, done.stderr


_EACH = """
import sys
for number, block in enumerate(blocks):
    print("block", number, file=sys.stderr)
    exec(prelude + block, {"__name__": "__main__"})
"""


def test_code_in_migration_runs(tmp_path):
    """Each block has names of its own; one process, because the imports take most of the time."""
    found = blocks("MIGRATION.md")
    assert len(found) == 6
    done = run(f"blocks, prelude = {found!r}, {PRELUDE!r}\n{_EACH}", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_block_that_fails_is_noticed(tmp_path):
    assert run(PRELUDE + "UnifiedTrainer('ignite', max_epoch=1)", tmp_path).returncode != 0


def test_readme_opens_with_the_two_commands_and_make_has_them():
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^make ([\w-]+)", text[: text.index("## ")], re.MULTILINE)
    assert commands == ["quickstart", "test"]
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    mentioned = set(re.findall(r"`make ([\w-]+)`", text + (ROOT / "CONTRIBUTING.md").read_text()))
    assert mentioned | set(commands) <= targets


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_within_the_repository_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]*)#?([\w-]*)\)", (ROOT / page).read_text())
    for path, anchor in links:
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), anchor


LONG_WALK = "A Lightning project, step by step"


@pytest.mark.parametrize(
    ("title", "commands"),
    [
        pytest.param(title, commands, marks=pytest.mark.slow if title == LONG_WALK else ())
        for title, commands in walks("MIGRATION.md").items()
    ],
)
def test_each_walk_of_the_page_on_migration_prints_what_it_shows(title, commands, tmp_path):
    walk(commands, tmp_path)


def test_a_walk_that_prints_something_else_is_noticed(tmp_path):
    here = Command("cd examples/migrate/ignite_spiral", "")
    walk([here, Command("echo one; echo two", "one\n...\n")], tmp_path / "right")
    with pytest.raises(AssertionError, match="expected:\nthree"):
        walk([here, Command("echo one", "three\n")], tmp_path / "wrong")


def test_each_public_name_is_found_in_the_readme_or_the_reference():
    words = set(re.findall(r"\w+", (ROOT / "README.md").read_text() + (ROOT / "docs/reference.md").read_text()))
    assert set(unitrain.__all__) - {"__version__"} <= words


def signposts() -> list[tuple[str, list[str]]]:
    """Return the rows of CONTRIBUTING's "Where do I change": the room and the paths."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found, room = [], ""
    for row in re.findall(r"^\| (.+) \| (.*)\|$", text[text.index("## Where do I change") :], re.MULTILINE):
        if row[0].startswith("**"):
            room = row[0]
        elif room:
            found.append((room, re.findall(r"`([\w/]+(?:\.py)?)`", row[1])))
    return found


def test_each_path_that_contributing_names_exists():
    named = [path for _, paths in signposts() for path in paths]
    assert len(named) >= 50
    assert not [one for one in named if not (ROOT / one).exists()]


def test_the_signposts_are_grouped_by_room_in_the_order_of_the_map():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = re.findall(r"^ *((?:\w+/ ?)+) ", text[text.index("## The map") : text.index("## The path")], re.MULTILINE)
    order = [room for line in rooms for room in line.split()]
    places = [[order.index(room) for room in re.findall(r"`([\w/]+/)`", row)] for row, _ in signposts()]
    assert all(places)
    assert places == sorted(places)
    for room, paths in signposts():
        assert any(f"/{one}" in f"/{paths[0]}/" for one in re.findall(r"`([\w/]+/)`", room)), (room, paths)


def test_each_package_says_where_to_start_reading():
    for package in sorted((ROOT / "unitrain").rglob("__init__.py")):
        text = re.sub(r"\s+", " ", package.read_text())
        for start in re.findall(r"Start reading in `([\w/.]+)`", text):
            assert (package.parent / start).exists(), (package, start)
        assert package.parent.parent != ROOT / "unitrain" or "Start reading in `" in text, package


def test_readme_is_read_in_two_minutes():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") < 165
    assert re.findall(r"<!-- table: (.*) -->", text) == ["servers"]  # others have pages of their own


def test_the_page_on_other_packages_names_the_releases_that_are_tried():
    page = (ROOT / "docs/downstream.md").read_text()
    lines = (ROOT / "tests/downstream/requirements.txt").read_text().splitlines()
    pinned = [one.split("==") for one in lines if one and not one.startswith("#")]
    own = {"lightning", "pytorch-lightning", "pytorch-ignite", "pytest"}
    assert {name for name, _ in pinned} > own
    assert not [name for name, version in pinned if name not in own and f"| {name} {version} |" not in page]
