"""--check-backend: what a backend would refuse is told from the source; nothing is rewritten."""

import pytest

from tests.migrate.checks import migrated, told
from unitrain.migrate.findings import Severity

SCRIPT = "import lightning as L\n{}\n"


def refused(text, check="ignite"):
    outcome = migrated(SCRIPT.format(text), check=check)
    assert outcome.text == SCRIPT.format(text)
    assert not [one for one in outcome.told if one.finding.severity is not Severity.PERSON]
    return [(line, rule) for line, rule, _ in told(outcome)]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('L.Trainer(strategy="ddp")', "check-trainer-argument"),
        ("L.Trainer(strategy=args.strategy)", "check-trainer-argument"),
        ("L.Trainer(devices=2)", "check-trainer-argument"),
        ("L.Trainer(devices=[0, 1])", "check-trainer-argument"),
        ("L.Trainer(devices=-1)", "check-trainer-argument"),
        ("L.Trainer(num_nodes=2)", "check-trainer-argument"),
        ("from lightning.pytorch.plugins import FSDPPrecision as P; P(x)", "check-trainer-argument"),
        ("L.pytorch.plugins.precision.BitsandbytesPrecision(mode)", "check-trainer-argument"),
        ('L.Trainer(model_registry="a")', "check-trainer-argument"),
        ("L.Trainer(**options)", "check-trainer-argument"),
        ('os.environ["PL_TRAINER_STRATEGY"] = "ddp"', "check-trainer-argument"),
        ('os.environ["PL_TRAINER_NUM_NODES"] = hosts', "check-trainer-argument"),
        ('os.environ.setdefault("PL_TRAINER_DEVICES", "2")', "check-trainer-argument"),
        ('os.environ.update({"PL_TRAINER_DEVICES": "-1"})', "check-trainer-argument"),
        ('os.environ.update(PL_TRAINER_NUM_NODES="2")', "check-trainer-argument"),
        ("t = L.Trainer(); t.nonsense", "check-trainer-attribute"),
        ("class M(L.LightningModule):\n    def f(self): self.trainer._data_connector", "check-trainer-attribute"),
        ("class C(L.Callback):\n    def on_fit_start(self, trainer, m): trainer._run()", "check-trainer-attribute"),
    ],
)
@pytest.mark.parametrize("backend", ["ignite", "reference"])
def test_what_acts_on_lightning_only(text, rule, backend):
    assert rule in {one for _, one in refused(text, backend)}
    assert not refused(text, "lightning")


@pytest.mark.parametrize(
    "text",
    [
        'L.Trainer(strategy="auto", devices=1, num_nodes=1, profiler=None, plugins=None, logger=False, max_epochs=3)',
        "L.Trainer(devices=[0])",
        "class M(L.LightningModule):\n    def f(self): return self.trainer.callback_metrics, self.trainer.is_global_zero",
        'L.Trainer(profiler="simple", barebones=True)',
        "from lightning.pytorch.cli import LightningCLI as C; C(M)",
        "from lightning.pytorch.callbacks import LearningRateFinder as F; F()",
        'os.environ["PL_TRAINER_STRATEGY"] = "auto"; os.environ["PL_TRAINER_DEVICES"] = "1"',
        'os.environ["PL_TRAINER_MAX_EPOCHS"] = epochs; del os.environ["PL_TRAINER_STRATEGY"]',
        'from lightning.pytorch.plugins import AsyncCheckpointIO as A; L.Trainer(plugins=[A(), x], precision="64-true")',
        'os.environ["PL_TRAINER_MODEL_REGISTRY"] = ""; print(os.environ.get("PL_TRAINER_DEVICES", "2"))',
        "class Other:\n    def f(self): return self.trainer.nonsense",
        "options = dict(max_epochs=1)\nL.Trainer(**options)",
    ],
)
def test_what_acts_everywhere(text):
    assert not refused(text)


def test_a_variable_of_the_shell_is_named_where_a_trainer_takes_it(monkeypatch):
    monkeypatch.setenv("PL_TRAINER_STRATEGY", "ddp")
    monkeypatch.setenv("PL_TRAINER_MAX_EPOCHS", "3")
    assert refused("L.Trainer(max_epochs=1)") == [(2, "check-trainer-argument")]
    assert not refused('L.Trainer(strategy="auto")')
    assert not refused("L.LightningModule()")
    assert not refused("L.Trainer()", "lightning")


def test_what_acts_on_ignite_only():
    text = "import ignite.distributed as idist\nwith idist.Parallel(backend={}) as p: p.run(main)\n"
    for check, backend, found in (("lightning", '"gloo"', 1), ("lightning", "None", 0), ("ignite", '"gloo"', 0)):
        outcome = migrated(text.format(backend), check=check)
        assert len(outcome.told) == found
    outcome = migrated(text.format('CONFIG["backend"]'), check="lightning")
    assert told(outcome) == [(2, "check-processes", "note")]
    assert 'CONFIG["backend"] is None or a backend' in outcome.told[0].finding.reason
    text = "import ignite\nimport torch.multiprocessing as mp\nmp.spawn(main, nprocs=2)\n"
    assert told(migrated(text, check="lightning")) == [(3, "check-processes", "note")]
    assert not told(migrated(text, check="ignite"))
    text = "from ignite.engine import Engine\ndef step(e, b): e.interrupt()\nt = Engine(step)\nt.interrupt()\n"
    assert [one[1] for one in told(migrated(text, check="lightning"))] == ["check-interrupt"]


@pytest.mark.parametrize("name", ["num_nodes", "model_registry"])
def test_the_run_refuses_what_the_check_tells(name):
    """The table that the check reads is the one that the run refuses by."""
    from unitrain_bridges.lightning import arguments, supported

    assert arguments.ARGUMENTS is supported.ARGUMENTS
    assert name in supported.ARGUMENTS
