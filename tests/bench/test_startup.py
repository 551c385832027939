"""What is imported until the first step is done, by name: a budget that no clock can blur."""

import os
import subprocess
import sys

import pytest

NAMES = "from unitrain import EarlyStopping, Event, ModelCheckpoint, TrainSpec, UnifiedTrainer, metric"
FIT = """
from functools import partial
import torch
from unitrain import TrainSpec, UnifiedTrainer
net = torch.nn.Linear(2, 1)
spec = TrainSpec(model=net, loss=torch.nn.MSELoss(), optimizer=partial(torch.optim.SGD, lr=0.1))
trainer = UnifiedTrainer({framework!r}, max_epochs=1, accelerator="cpu", enable_progress_bar=False)
trainer.fit(spec, [(torch.ones(3, 2), torch.ones(3, 1))])
"""
BARE = """
import torch
{imported}
net = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
optimizer.zero_grad()
net(torch.ones(3, 2)).sum().backward()
optimizer.step()
"""
OF = {"ignite": "import ignite.engine, ignite.handlers, ignite.metrics", "lightning": "import pytorch_lightning"}

FOREIGN = {"_decimal", "decimal", "faulthandler", "html", "packaging", "unitrain"}
"""Top-level packages beyond torch, or beyond a bare step with torch and the framework; ours aside."""
ADAPTERS = {"ignite": "unitrain_ignite", "lightning": "unitrain_lightning"}
NOT_OURS = (
    "unitrain.cli",
    "unitrain.compat.optuna",
    "unitrain.compat.mlflow",
    "unitrain.cli.doctor",
    "unitrain.export",
    "unitrain.data.vectorized",
    "unitrain.loggers.csv",
    "unitrain.loggers.mlflow",
    "unitrain.tuning",
    "unitrain.migrate",
    "unitrain.interop.command",
    "unitrain.testing",
    "unitrain_bridges",
)
"""Our own modules that no plain fit asks for."""


def imported(code):
    """Return the modules that a fresh interpreter imports, as it tells them itself."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines[1:]}


def packages(modules):
    return {name.partition(".")[0] for name in modules}


def superfluous(modules):
    return sorted(name for name in modules if name.startswith(NOT_OURS))


def test_the_name_alone_imports_one_module():
    assert {name for name in imported("import unitrain") if name.startswith("unitrain")} == {"unitrain"}


def test_the_names_of_a_script_import_nothing_foreign():
    found = imported(NAMES)
    assert packages(found - imported("import torch")) <= FOREIGN
    assert not superfluous(found)


@pytest.mark.parametrize("framework", OF)
def test_a_first_step_imports_nothing_beyond_its_framework(framework):
    found = imported(FIT.format(framework=framework))
    beyond = packages(found) - packages(imported(BARE.format(imported=OF[framework])))
    assert beyond <= {*FOREIGN, ADAPTERS[framework]}
    assert not superfluous(found)


def test_an_import_too_many_is_noticed():
    found = imported(NAMES + "\nimport unitrain.cli.doctor, rich.console")
    assert "rich" in packages(found) - FOREIGN
    assert superfluous(found)
