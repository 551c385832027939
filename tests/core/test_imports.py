"""What ``import unitrain`` costs and brings, in processes of their own."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys

import pytest

import unitrain

FRAMEWORKS = ("pytorch_lightning", "lightning", "ignite")

BLOCKED = f"""
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FRAMEWORKS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(code):
    """Run ``code`` in a fresh interpreter and return what it printed, as JSON."""
    # with byte code, as it is after an installation, whatever this process was told
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_brings_no_framework_and_no_torchmetrics():
    code = "import json, sys, unitrain; [getattr(unitrain, name) for name in unitrain.__all__]; print(json.dumps(sorted(sys.modules)))"
    modules = {name.partition(".")[0] for name in run(code)}
    assert "torch" in modules  # all names were resolved
    assert not modules & {*FRAMEWORKS, "torchmetrics", "unitrain_lightning", "unitrain_ignite"}


def test_import_of_the_name_alone_brings_not_even_torch():
    assert run("import json, sys, unitrain; print(json.dumps([n for n in sys.modules if n == 'torch']))") == []


def test_import_costs_at_most_a_tenth_of_a_second_above_torch():
    # processor time, and the least of several: what else this machine is doing only adds to it, through its caches
    code = (
        # what a script imports that trains, as those of README.md; all other names come when they are asked for
        "import time, json; begin = time.process_time(); import torch; start = time.process_time();"
        "from unitrain import EarlyStopping, Event, ModelCheckpoint, TrainSpec, UnifiedTrainer, metric;"
        "print(json.dumps([start - begin, time.process_time() - start]))"
    )
    run(code)  # the byte code is compiled, as it is after an installation
    # a tenth of a second where torch takes one: whatever slows the one down slows the other
    assert min(own / max(1, of_torch) for of_torch, own in (run(code) for _ in range(5))) <= 0.1


def test_every_public_name_resolves_and_is_sorted():
    assert unitrain.__all__ == sorted(unitrain.__all__)
    assert all(getattr(unitrain, name) is not None for name in unitrain.__all__)
    assert set(unitrain.__all__) <= set(dir(unitrain))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'UnifiedTrainr'"):
        unitrain.UnifiedTrainr  # noqa: B018
    with pytest.raises(ImportError, match="Missing"):
        from unitrain import Missing  # noqa: F401


def test_runs_with_both_frameworks_blocked_and_names_the_extra():
    code = (
        BLOCKED
        + """
from functools import partial
import torch
import unitrain
net = torch.nn.Linear(2, 1)
spec = unitrain.TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1), metrics={"mae": "mae"})
batches = [(torch.ones(3, 2), torch.ones(3, 1))] * 2
step = unitrain.UnifiedTrainer("reference", max_epochs=2, enable_progress_bar=False).fit(spec, batches, batches).step
refusals = {}
for framework in ("lightning", "ignite"):
    try:
        unitrain.UnifiedTrainer(framework)
    except unitrain.BackendNotInstalledError as error:
        refusals[framework] = [str(error), repr(error.__cause__)]
print(json.dumps([step, refusals]))
"""
    )
    step, refusals = run(code)
    assert step == 4
    for framework, package in (("lightning", "lightning"), ("ignite", "ignite")):
        message, cause = refusals[framework]
        assert f"framework={framework!r}" in message
        assert package in message
        assert message.endswith(f"\nHint: pip install 'pytorch-unitrain[{framework}]'")
        assert cause.startswith("ModuleNotFoundError")


PACKAGES = ("callbacks", "checkpoint", "cli", "compat", "distributed", "export", "loggers", "migrate", "testing")


@pytest.mark.parametrize("name", PACKAGES)
def test_dir_of_a_package_shows_what_it_has_for_others(name):
    package = importlib.import_module(f"unitrain.{name}")
    offered = {*getattr(package, "__all__", ()), *(one.name for one in pkgutil.iter_modules(package.__path__))}
    assert {one for one in dir(package) if not one.startswith("__")} <= offered
    assert {*getattr(package, "__all__", ())} <= {*dir(package)}
