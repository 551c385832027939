"""What the fixers' tables call old or gone is not in the installed releases: there it would still do something."""

import inspect
from importlib import import_module

import pytest
import pytorch_lightning as pl
from pytorch_lightning import callbacks

from tests.migrate.checks import check_noop, check_person, migrated, told
from unitrain.migrate.findings import Severity
from unitrain_lightning.fixers import attributes, callback_arguments, modules, moved, trainer_arguments
from unitrain_lightning.removed_hooks import BY_HAND, EPOCH_ENDS, EPOCH_ENDS_OF_0, PARAMETERS, RENAMES

PACKAGES = ("pytorch_lightning", "lightning.pytorch")


def found(name):
    """Return what a dotted name is today; None if it is nothing."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            one = import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            one = getattr(one, part, None)
        return one
    return None


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("old", moved._MOVED)
def test_a_name_that_moved_is_gone_or_the_same(package, old):
    now = found(f"{package}.{old}")
    if now is not None and now is not found(f"{package}.{moved._MOVED[old]}"):
        assert moved._rule(f"{package}.{old}").severity is Severity.BEHAVIOUR


def test_arguments_attributes_and_hooks_are_gone():
    assert not trainer_arguments.OLD_NAMES & inspect.signature(pl.Trainer).parameters.keys()
    assert not [name for name in attributes._RENAMED if hasattr(pl.Trainer, name)]
    assert not modules._LOG_GONE & inspect.signature(pl.LightningModule.log).parameters.keys()
    owners = (pl.LightningModule, pl.LightningDataModule, pl.Callback)
    hooks = {*RENAMES, *BY_HAND, *EPOCH_ENDS, *EPOCH_ENDS_OF_0}
    assert not [(owner, name) for owner in owners for name in hooks if hasattr(owner, name)]
    for name, count in PARAMETERS.items():
        given = inspect.signature(getattr(pl.Callback, name, getattr(pl.LightningModule, name))).parameters
        assert len(given) == count + (3 if hasattr(pl.Callback, name) else 1), name


def test_arguments_of_callbacks_are_gone():
    for names, argument, *_ in callback_arguments._ROWS:
        known = inspect.signature(getattr(callbacks, min(names).rpartition(".")[2])).parameters
        assert argument not in known or argument == "mode"  # which takes other values
    for kind in (callbacks.ModelCheckpoint, callbacks.EarlyStopping):
        with pytest.raises(Exception, match="auto"):
            kind(monitor="x", mode="auto")


@pytest.mark.parametrize("kind", ["handlers", "metrics"])
def test_what_moved_in_ignite_is_the_same(kind):
    old, new = import_module(f"ignite.contrib.{kind}"), import_module(f"ignite.{kind}")
    classes = {name: one for name, one in vars(old).items() if inspect.isclass(one)}
    assert classes
    assert not [name for name, one in classes.items() if getattr(new, name) is not one]


STAR = "from ignite.contrib.handlers import *\n"


def test_a_star_stays():
    outcome = migrated(STAR)
    assert outcome.text == STAR
    assert told(outcome) == [(1, "ignite-contrib", "note")]


ENGINE = "from ignite.engine import Engine\ndef step(e, b): b.backward()\nt = Engine(step)\n"


@pytest.mark.parametrize(
    "line", ["x += t.run(d, 1).x", "x = f(), t.run(d)", "x = a.b + t.run(d, 1).x", "x = a[0], t.run(d)"]
)
def test_a_run_that_is_not_first_is_left_for_a_person(line):
    check_person(ENGINE + line + "\n", "ignite-run", 4)


def test_a_seed_of_a_run_of_its_own_is_left_for_a_person():
    check_person("from mine import Engine\nimport ignite\nEngine().run(d, max_epochs=1, seed=3)\n", "ignite-seed", 3)


SCALER = "import lightning\nfrom torch.cuda.amp import GradScaler\ns = GradScaler()\n"


@pytest.mark.parametrize(
    "text",
    [
        SCALER + "isinstance(s, GradScaler)\n",
        SCALER + "partial(GradScaler, enabled=False)\n",
        "import lightning as L\nclass M:\n    def training_step(self): pass\n    def configure_optimizers(self):\n        self.hparams = 1\n",
        "import lightning as L\nfrom mine import data_loader\nclass M(L.LightningModule):\n    @data_loader\n    def f(self): pass\n",
        "import lightning as L\nclass M(L.LightningModule):\n    @property\n    def hparams(self): pass\n    def f(self): self.hparams = 1\n",
    ],
)
def test_what_only_looks_old_is_left(text):
    check_noop(text)


MODULE = "import lightning as L\nclass M(L.LightningModule):\n    {}\n"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("def training_epoch_end(self, outs):\n        pass\nm.training_epoch_end([])", "lightning-epoch-end"),
        ("def on_train_epoch_end(self, outs): pass\nm.on_train_epoch_end([])", "lightning-hook-parameters"),
        ("def f(self):\n        self.trainer.gpus = 1\n        print(self.trainer.gpus)", "lightning-attributes"),
        ("try:\n        L.Trainer(gpus=1)\n    except Exception: pass", "lightning-devices"),
    ],
)
def test_what_a_script_relies_on_is_left_for_a_person(text, rule):
    check_person(MODULE.format(text), rule)


def test_a_repair_acts_where_its_error_is_not_handled():
    text = MODULE.format("pass") + "try:\n    L.Trainer(gpus=0).fit(M())\nexcept (KeyboardInterrupt, OSError): pass\n"
    assert 'accelerator="cpu"' in migrated(text).text


def test_classes_that_extend_each_other_come_to_an_end():
    steps = "    def training_step(self): pass\n    def configure_optimizers(self): self.hparams = 1\n"
    check_noop(f"import lightning as L\nclass A(B):\n{steps}class B(A):\n{steps}")
