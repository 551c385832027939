"""The one table of the rules of `unitrain migrate`: the kind of each, and a script that its trace is proved by."""

from __future__ import annotations

from textwrap import indent
from typing import NamedTuple

SAME = "same"
"""The rewritten script has the trace of the original."""
REPAIR = "repair"
"""The original fails with the installed releases; up to there the traces are equal."""
BEHAVIOUR = "behaviour"
"""Left as it is, unless chosen: then the trace is another."""
TOLD = "told"
"""Only reported: what it finds is not rewritten."""


class Row(NamedTuple):
    """A rule.

    Attributes:
        kind: What it does to the trace.
        script: A script that it finds something in.
        to: The backend that the script is to name.
        name: The name of the file.
        check: The backend whose refusals are told, for the rules of ``--check-backend``.
    """

    kind: str
    script: str
    to: str = "unitrain"
    name: str = "script.py"
    check: str = ""


SUGGESTED = """
import optuna
trial = optuna.trial.FixedTrial({"lr": 0.01, "x": 0.5, "q": 1.5})
print(trial.suggest_loguniform("lr", 1e-5, 1e-1), trial.suggest_uniform("x", 0, 1))
print(trial.suggest_discrete_uniform("q", 0, 2, 0.5), trial.distributions)
"""
INTEGRATED = """
import optuna
from optuna.integration import TorchDistributedTrial
print(TorchDistributedTrial, optuna.integration.PyTorchIgnitePruningHandler(None, "loss", None)._metric)
"""
IN_REDIS = """
import optuna
from optuna.storages import RedisStorage
def study():
    return optuna.create_study(storage=RedisStorage("redis://localhost"))
print("ready")
"""
IN_A_FILE = """
import optuna
from optuna.storages import JournalFileStorage, JournalStorage
backend = JournalFileStorage("study.log", optuna.storages.JournalFileOpenLock("study.log"))
backend.append_logs([{"op_code": 2}])
print(JournalStorage.__name__, list(backend.read_logs(0)))
"""
OF_LIGHTNING = """
import optuna
import pytorch_lightning
from optuna_integration import PyTorchLightningPruningCallback
PyTorchLightningPruningCallback(None, "loss")
"""

LIGHTNING = """
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
{head}

class Model(pl.LightningModule):
    def __init__(self, given=None):
        super().__init__()
        {init}
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch + torch.rand(1)).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

{methods}

def data():
    return DataLoader(torch.ones(4, 2), batch_size=2)


{made}
{run}
"""
QUIET = "logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False"
VALIDATED = """
def validation_step(self, batch, batch_idx):
    self.log("val", self.layer(batch).mean())
"""
CALLBACK = """
class Noise(pl.Callback):
    def {}:
        print("noise", torch.rand(1).item())
"""


def lightning(given="", *, head="", init="pass", methods="", made="", run="trainer.fit(Model(), data())", quiet=QUIET):
    options = ", ".join(one for one in ("max_epochs=2", quiet, given) if one)
    parts = {"head": head, "init": init, "methods": indent(methods, "    "), "run": run}
    return LIGHTNING.format(made=made or f"trainer = pl.Trainer({options})", **parts)


IGNITE = """
import torch
from ignite.engine import Engine, Events
{head}

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = [torch.ones(2, 2), torch.ones(2, 2)]


def step(engine, batch):
    optimizer.zero_grad()
    loss = model(batch + torch.rand(1)).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


def told():
    print("called", torch.rand(1).item())


trainer = Engine(step)
{run}
print(trainer.state.output)
"""


def ignite(run="trainer.run(data, max_epochs=2)", head=""):
    return IGNITE.format(run=run, head=head)


UNITRAIN = """
import pytorch_lightning as pl
from unitrain import UnifiedTrainer
""" + lightning(made="trainer = UnifiedTrainer(framework='lightning', max_epochs=1)")
PARSED = """
parser = argparse.ArgumentParser()
parser = pl.Trainer.add_argparse_args(parser)
parser.set_defaults(max_epochs=2)
trainer = pl.Trainer.from_argparse_args(parser.parse_args([]), logger=False, enable_checkpointing=False)
"""
OPTIMIZER_STEP = """
def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_lbfgs):
    print("stepped")
    super().optimizer_step(epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_lbfgs)
"""
OUTPUTS = """
def {}(self, outputs):
    print(len(outputs), torch.rand(1).item())
"""
SCALED = """
scaler = torch.cuda.amp.GradScaler(enabled=False)
with torch.cuda.amp.autocast(False):
    print(scaler.scale(torch.rand(1)).item())
"""
RULES = {
    # the tool itself
    "parse-error": Row(TOLD, "import lightning\n\ndef f(:\n    pass\n"),
    "no-framework": Row(TOLD, "import torch\n"),
    "entangled": Row(TOLD, ""),  # no fixers do that: test_engine.py makes two that do
    "config-target": Row(TOLD, "trainer:\n  _target_: pytorch_lightning.Trainer\n", name="conf.yaml"),
    # --check-backend
    "check-trainer-argument": Row(TOLD, lightning('strategy="fsdp"'), check="ignite"),
    "check-trainer-attribute": Row(
        TOLD, lightning(methods="def f(self): self.trainer._data_connector"), check="ignite"
    ),
    "check-processes": Row(TOLD, "import ignite.distributed as i\ni.Parallel(backend='gloo')\n", check="lightning"),
    "check-interrupt": Row(TOLD, ignite("trainer.interrupt()"), check="lightning"),
    # unitrain's own names
    "unitrain-moved": Row(REPAIR, "from unitrain.events import Event\nprint(Event.FIT_START)\n"),
    "unitrain-renamed": Row(SAME, UNITRAIN + "print(type(trainer.bridged).__name__)\n"),
    "unitrain-framework": Row(SAME, UNITRAIN, to="ignite"),
    # Ignite
    "ignite-contrib": Row(
        SAME,
        ignite(
            "trainer.add_event_handler(Events.ITERATION_STARTED, LinearCyclicalScheduler(optimizer, 'lr', 0.1, 0.01, 4))\n"
            "trainer.run(data, max_epochs=2)",
            "from ignite.contrib.handlers.param_scheduler import LinearCyclicalScheduler",
        ),
    ),
    "ignite-utils": Row(
        SAME, ignite(head="from ignite._utils import to_onehot\nprint(to_onehot(torch.tensor([1]), 2))")
    ),
    "ignite-gone": Row(TOLD, ignite(head="from ignite.metrics import F1")),
    "ignite-keywords": Row(
        REPAIR,
        ignite(
            "keep = ModelCheckpoint('kept', 'a', n_saved=1, save_interval=1, require_empty=False)\n"
            "trainer.add_event_handler(Events.EPOCH_COMPLETED, keep, {'model': model})\ntrainer.run(data, max_epochs=2)",
            "from ignite.handlers import ModelCheckpoint",
        ),
    ),
    "ignite-seed": Row(REPAIR, ignite("trainer.run(data, max_epochs=2, seed=3)")),
    "ignite-run": Row(SAME, ignite("print(trainer.run(data, max_epochs=2).epoch)")),
    "ignite-role": Row(TOLD, ignite("engine = Engine(lambda engine, batch: batch)\nengine.run(data)")),
    "torch-amp": Row(SAME, lightning(run=SCALED + "trainer.fit(Model(), data())")),
    # Lightning: names
    "lightning-moved": Row(REPAIR, lightning(head="from pytorch_lightning.callbacks.base import Callback")),
    "lightning-progress-bar": Row(
        BEHAVIOUR,
        lightning(
            "callbacks=[ProgressBar()]",
            quiet=QUIET.replace("False, enable_model", "True, enable_model"),
            head="from pytorch_lightning.callbacks.progress import ProgressBar",
            run="trainer.fit(Model(), data())\nprint(ProgressBar.__name__)",
        ),
    ),
    "lightning-gone": Row(TOLD, "from pytorch_lightning.loggers import TestTubeLogger\n"),
    "lightning-metrics": Row(TOLD, "from pytorch_lightning.metrics import Accuracy\n"),
    "lightning-cli": Row(TOLD, "from lightning.pytorch.cli import LightningCLI\nLightningCLI()\n"),
    "lightning-hydra": Row(
        TOLD, "import hydra\nimport lightning as L\ntrainer = hydra.utils.instantiate(cfg.trainer)\n"
    ),
    # Lightning: the Trainer's arguments
    "lightning-argparse": Row(REPAIR, lightning(head="import argparse", made=PARSED)),
    "lightning-devices": Row(REPAIR, lightning("gpus=0")),
    "lightning-strategy": Row(REPAIR, lightning("distributed_backend=None")),
    "lightning-display": Row(REPAIR, lightning("weights_summary=None, progress_bar_refresh_rate=0")),
    "lightning-checkpointing": Row(REPAIR, lightning("checkpoint_callback=False, early_stop_callback=False")),
    "lightning-precision": Row(
        SAME,
        lightning("precision=64", run="trainer.fit(Model().double(), data())").replace(
            "ones(4, 2)", "ones(4, 2).double()"
        ),
    ),
    "lightning-old-arguments": Row(REPAIR, lightning("train_percent_check=0.5")),
    "lightning-removed-arguments": Row(REPAIR, lightning("terminate_on_nan=True, flush_logs_every_n_steps=3")),
    "lightning-tuner": Row(REPAIR, lightning("auto_lr_find=False")),
    "lightning-callback-arguments": Row(
        REPAIR,
        lightning(
            "callbacks=pl.callbacks.ModelCheckpoint(filepath='kept/{epoch}', monitor='val', mode='auto', period=1)",
            quiet=QUIET.replace("enable_checkpointing=False, ", ""),
            methods=VALIDATED,
            run="trainer.fit(Model(), data(), data())",
        ),
    ),
    "lightning-resume": Row(REPAIR, lightning("resume_from_checkpoint=None")),
    # Lightning: modules and callbacks
    "lightning-hparams": Row(REPAIR, lightning(init="self.hparams = {'lr': 0.1}")),
    "lightning-log": Row(
        REPAIR, lightning(methods="def on_train_epoch_end(self): self.log('x', torch.rand(1), tbptt_pad_token=0)")
    ),
    "lightning-attributes": Row(
        REPAIR, lightning(methods="def on_train_epoch_end(self): print(self.trainer.running_sanity_check)")
    ),
    "lightning-hooks": Row(
        BEHAVIOUR, lightning("callbacks=[Noise()]", head=CALLBACK.format("on_epoch_end(self, trainer, module)"))
    ),
    "lightning-hook-parameters": Row(
        REPAIR,
        lightning("callbacks=[Noise()]", head=CALLBACK.format("on_train_epoch_end(self, trainer, module, outputs)")),
    ),
    "lightning-optimizer-step": Row(REPAIR, lightning(methods=OPTIMIZER_STEP)),
    "lightning-optimizer-idx": Row(TOLD, lightning().replace("batch, batch_idx)", "batch, batch_idx, optimizer_idx)")),
    "lightning-data-loader": Row(
        REPAIR,
        lightning(methods="@pl.data_loader\ndef train_dataloader(self): return data()", run="trainer.fit(Model())"),
    ),
    "lightning-epoch-end": Row(REPAIR, lightning(methods=OUTPUTS.format("training_epoch_end"))),
    "lightning-old-epoch-end": Row(BEHAVIOUR, lightning(methods=OUTPUTS.format("training_end"))),
    "lightning-returned-log": Row(
        TOLD, lightning(methods="def test_step(self, batch, batch_idx):\n    return {'log': {}, 'loss': 1}")
    ),
    # Lightning: unitrain around it
    "lightning-trainer": Row(SAME, lightning("gradient_clip_val=0.5, num_sanity_val_steps=0")),
    "lightning-run": Row(
        SAME,
        lightning(
            methods=VALIDATED,
            run="model = Model()\ntrainer.fit(model=model, train_dataloaders=data())\n"
            "print(trainer.validate(model, dataloaders=data(), verbose=False))",
        ),
    ),
    "lightning-attribute": Row(SAME, lightning(run="trainer.fit(Model(), data())\nprint(trainer.global_step)")),
    "optuna-suggest": Row(SAME, SUGGESTED),
    "optuna-integration": Row(SAME, INTEGRATED),
    "optuna-redis": Row(REPAIR, IN_REDIS),
    "optuna-journal": Row(SAME, IN_A_FILE),
    "optuna-gone": Row(TOLD, "from optuna.integration import SkoptSampler\n"),
    "optuna-lightning": Row(TOLD, OF_LIGHTNING),
    "lightning-escapes": Row(TOLD, lightning(run="from elsewhere import go\ngo(trainer)")),
}
"""Each rule of `unitrain migrate --list-rules`."""

# --- neighbours -------------------------------------------------------------------------------------------------------

HANDLED_IMPORT = """
try:
    from pytorch_lightning.metrics import Metric
    print("old metrics", torch.rand(1).item())
except ImportError:
    print("no old metrics")
"""
HANDLED_ARGUMENT = """
try:
    trainer = pl.Trainer(gpus=0, max_epochs=2, {quiet})
except TypeError:
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, {quiet})
"""
NOISE = "torch.rand(1).item()"
NOISY = f"""
def loud(name):
    print(name, {NOISE})
    return name == "bar"
"""
IN_ORDER = (
    "enable_model_summary=loud('summary'), enable_progress_bar=loud('bar'), {}, logger=False, max_epochs=loud('x') + 2"
)
OWN_STEP = """
def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure, on_tpu=False, using_lbfgs=False):
    super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
"""
CALLED = """
def on_train_epoch_end(self):
    self.{0}([])

def {0}(self, outputs):
    print(len(outputs), torch.rand(1).item())
"""
HANDED_UP = """
class Above(pl.LightningModule):
    def on_train_epoch_end(self, outputs):
        print("end", torch.rand(1).item())
"""
SEVERAL = """
def test_step(self, batch, batch_idx, dataloader_idx=0):
    self.log("x", self.layer(batch).mean())
"""
OWN_LOOP = """
class Loop:
    def __init__(self, hparams):
        self.hparams = hparams

    def training_step(self, outputs):
        return outputs

    def configure_optimizers(self):
        self.training_epoch_end([self.hparams])

    def training_epoch_end(self, outputs):
        print(outputs)


Loop(3).configure_optimizers()
"""
KEPT_ATTRIBUTE = "trainer.fit(Model(), data())\ntrainer.gpus = 3\nprint(trainer.gpus)"
MARKED = """
class marks:
    data_loader = staticmethod(lambda function: lambda *_: print("marked", torch.rand(1).item()))
"""
RUN_OF_ITS_OWN = """
class Own(Engine):
    def run(self, data, max_epochs=1, epoch_length=None, seed=None):
        print("seeded", torch.rand(1).item(), seed)
        return super().run(data, max_epochs=max_epochs)


own = Own(step)
own.run(data, max_epochs=2, seed=3)
"""
NEIGHBOURS = {
    "an import whose error is handled": lightning(head=HANDLED_IMPORT),
    "an argument whose error is handled": lightning(made=HANDLED_ARGUMENT.format(quiet=QUIET)),
    "suppressed": lightning(
        head="from contextlib import suppress\nwith suppress(ImportError):\n"
        "    from pytorch_lightning.callbacks.base import Callback\n    print(torch.rand(1).item())"
    ),
    "arguments that print, in their order": lightning(
        head=NOISY, made=f"trainer = pl.Trainer({IN_ORDER.format('enable_checkpointing=False')})"
    ),
    "arguments that print, in turn": lightning(
        head=NOISY, made=f"trainer = pl.Trainer({IN_ORDER.format('enable_checkpointing=loud(1)')})"
    ),
    "optimizer_step with parameters that have defaults": lightning(methods=OWN_STEP),
    "a hook that the module calls": lightning(methods=CALLED.format("training_end")),
    "an old hook that the module calls": lightning(methods=CALLED.format("my_epoch_end")),
    "a hook that an heir calls": lightning(
        head=HANDED_UP, methods="def on_train_epoch_end(self): super().on_train_epoch_end([])"
    ).replace("Model(pl.LightningModule)", "Model(Above)"),
    "several loaders": lightning(
        methods=SEVERAL, run="print(trainer.test(Model(), [data(), data()], verbose=False))", made=""
    ),
    "a loop that is not Lightning's": lightning(run=OWN_LOOP),
    "an attribute that the script sets": lightning(run=KEPT_ATTRIBUTE),
    "a scaler that is asked for": lightning(
        run="scaler = torch.cuda.amp.GradScaler(enabled=False)\nprint(isinstance(scaler, torch.cuda.amp.GradScaler))"
    ),
    "a star": ignite(head="Checkpoint = 3\nfrom ignite.contrib.handlers import *\nprint(Checkpoint)"),
    "a run after something else": ignite("print(told(), trainer.run(data, max_epochs=2).epoch)"),
    "a run before something else": ignite("print(trainer.run(data, max_epochs=2).epoch, told())"),
    "a run of its own": ignite(RUN_OF_ITS_OWN),
}
"""Scripts whose trace another rule would change, if it did not look at what is around."""
