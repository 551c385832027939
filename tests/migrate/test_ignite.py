"""Ignite scripts: which engines train, and how their runs are written."""

import inspect
from importlib import import_module

import pytest

from tests.migrate.checks import check_noop, check_person, check_transformed, migrated

STEP = """\
from ignite.engine import Engine
{imports}
def step(engine, batch):
    loss.backward()
    optimizer.step()

trainer = Engine(step)
{run}
"""
IMPORT = "from unitrain import UnifiedTrainer, from_engine\n"


def runs(before, after, to="unitrain"):
    check_transformed(
        STEP.format(imports="", run=before), STEP.format(imports=IMPORT, run=after), to, rule="ignite-run"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "trainer.run(loader, max_epochs=5)",
            'UnifiedTrainer(framework="ignite", max_epochs=5).fit(from_engine(trainer), loader)',
        ),
        (
            "trainer.run(loader, 5)",
            'UnifiedTrainer(framework="ignite", max_epochs=5).fit(from_engine(trainer), loader)',
        ),
        ("trainer.run(loader)", 'UnifiedTrainer(framework="ignite").fit(from_engine(trainer), loader)'),
        (
            "trainer.run(data=loader, max_epochs=n + 1, epoch_length=3)",
            'UnifiedTrainer(framework="ignite", max_epochs=n + 1).fit(from_engine(trainer, epoch_length=3), train_dataloaders=loader)',
        ),
        (
            "trainer.run(loader, max_iters=9)",
            'UnifiedTrainer(framework="ignite").fit(from_engine(trainer, max_iters=9), loader)',
        ),
        (
            "trainer.run(max_epochs=2, epoch_length=3)",
            'UnifiedTrainer(framework="ignite", max_epochs=2).fit(from_engine(trainer, epoch_length=3))',
        ),
        (
            "if x:\n    state = trainer.run(loader, 2)  # go",
            'if x:\n    UnifiedTrainer(framework="ignite", max_epochs=2).fit(from_engine(trainer), loader)\n    state = trainer.state  # go',
        ),
        (
            "print(trainer.run(loader, 2).metrics['x'])",
            "UnifiedTrainer(framework=\"ignite\", max_epochs=2).fit(from_engine(trainer), loader)\nprint(trainer.state.metrics['x'])",
        ),
        (
            "trainer.run(\n    loader,  # data\n    max_epochs=2,\n)",
            'UnifiedTrainer(framework="ignite", max_epochs=2).fit(\n    # data\n    from_engine(trainer),\n    loader,\n)',
        ),
        (
            "Engine(step).run(loader, 1)",
            'UnifiedTrainer(framework="ignite", max_epochs=1).fit(from_engine(Engine(step)), loader)',
        ),
    ],
)
def test_runs(before, after):
    runs(before, after)


def test_the_word_is_what_was_asked_for():
    runs(
        "trainer.run(a, 1)",
        'UnifiedTrainer(framework="lightning", max_epochs=1).fit(from_engine(trainer), a)',
        "lightning",
    )
    runs("trainer.run(a, 1)", 'UnifiedTrainer(framework="ignite", max_epochs=1).fit(from_engine(trainer), a)', "ignite")


@pytest.mark.parametrize(
    "run",
    [
        "trainer.run(**options)",
        "trainer.run(loader, 1, 2)",
        "f = lambda: trainer.run(loader, max_epochs=1).metrics",
        "ok = flag and trainer.run(loader, max_epochs=1)",
        "while trainer.run(loader, max_epochs=1).metrics: pass",
        "x = 1; y = trainer.run(loader)",
    ],
)
def test_runs_that_are_left_for_a_person(run):
    check_person(STEP.format(imports="", run=run), "ignite-run", 8)


ENGINES = """\
from functools import partial
import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from torch import no_grad
{}
"""


def trains(text, name="trainer"):
    outcome = migrated(ENGINES.format(text))
    assert f".fit(from_engine({name})" in outcome.text, outcome.told


@pytest.mark.parametrize(
    "text",
    [
        "trainer = create_supervised_trainer(m, o, l)\ntrainer.run(d, 1)",
        "trainer = Engine(lambda e, b: loss(b).backward())\ntrainer.run(d, 1)",
        "step = lambda e, b: scaler.step(o)\ntrainer = Engine(step)\ntrainer.run(d, 1)",
        "def helper(): optimizer.step()\ndef step(e, b): helper()\ntrainer = Engine(step)\ntrainer.run(d, 1)",
        "def step(e, b, x): x.backward()\ntrainer = Engine(partial(step, x=1))\ntrainer.run(d, 1)",
        "def make():\n    def step(e, b): optimizer_d.step()\n    return step\ntrainer = Engine(make())\ntrainer.run(d, 1)",
        "def step(e, b): return 1\ntrainer = Engine(step)\n@trainer.on(Events.EPOCH_COMPLETED)\ndef f(e): loss.backward()\ntrainer.run(d, 1)",
        "def step(e, b): return 1\ndef f(e): opt.step()\ntrainer = Engine(step)\ntrainer.add_event_handler(Events.STARTED, f)\ntrainer.run(d, 1)",
        "def step(e, b): return other(b)\ntrainer = Engine(step)  # unitrain: trainer\ntrainer.run(d, 1)",
        "def step(e, b): return other(b)\ntrainer = Engine(step)\ntrainer.run(d, 1)  # unitrain: trainer",
        "def go(trainer, d):\n    trainer.run(d, max_epochs=1)  # unitrain: trainer",
        "def make():\n    return create_supervised_trainer(m, o, l)\ntrainer = make()\ntrainer.run(d, 1)",
        "def make():\n    t = create_supervised_trainer(m, o, l)\n    return t, 1\ntrainer, x = make()\ntrainer.run(d, 1)",
        "def step(e, b): b.backward()\ndef go(trainer):\n    trainer.run(d, 1)\ngo(Engine(step))",
        "def step(e, b): b.backward()\ntrainer, evaluator = Engine(step), create_supervised_evaluator(m)\ntrainer.run(d, 1)",
        "class Step:\n    def __call__(self, e, b): b.backward()\ntrainer = Engine(Step())\ntrainer.run(d, 1)",
    ],
)
def test_engines_that_train(text):
    trains(text)


def test_an_engine_in_an_attribute():
    trains(
        "class T:\n    def __init__(self):\n        self.engine = Engine(self.step)\n"
        "    def step(self, e, b): self.optimizer.step()\n    def go(self, d):\n        self.engine.run(d, max_epochs=3)",
        "self.engine",
    )


@pytest.mark.parametrize(
    "text",
    [
        "evaluator = create_supervised_evaluator(m)\nstate = evaluator.run(d)",
        "def infer(e, b):\n    with torch.no_grad(): return m(b)\nevaluator = Engine(infer)\nevaluator.run(d)",
        "@no_grad()\ndef infer(e, b): return m(b)\nevaluator = Engine(infer)\nevaluator.run(d)",
        "def infer(e, b):\n    m.eval()\n    return m(b)\nEngine(infer).run(d)",
        "def infer(e, b): return m(b)\nevaluator = Engine(infer)  # unitrain: evaluator\nevaluator.run(d)",
        "import subprocess\nsubprocess.run(['ls'])\nwith ignite.distributed.Parallel() as p: p.run(main)",
        "def go(evaluator, d): evaluator.run(d)",
    ],
)
def test_what_does_not_train_is_left(text):
    check_noop(ENGINES.format(text))


@pytest.mark.parametrize(
    "text",
    [
        "def step(e, b): return m(b)\nengine = Engine(step)\nengine.run(d, 1)",
        "engine = Engine(imported.step)\nengine.run(d, 1)",
        "def step(e, b):\n    env.step(b)\n    scheduler.step()\nengine = Engine(step)\nengine.run(d, 1)",
        "def go(engine, d):\n    engine.run(d, max_epochs=1)",
    ],
)
def test_unclear_roles_are_left_for_a_person(text):
    outcome = check_person(ENGINES.format(text), "ignite-role")
    assert "# unitrain: trainer" in outcome.told[0].finding.fix


def test_seed():
    check_transformed(
        "import torch\n" + STEP.format(imports="", run="trainer.run(a, max_epochs=1, seed=s)"),
        "import torch\n"
        + STEP.format(
            imports=IMPORT,
            run='torch.manual_seed(s)\nUnifiedTrainer(framework="ignite", max_epochs=1).fit(from_engine(trainer), a)',
        ),
        rule="ignite-seed",
    )
    outcome = migrated(STEP.format(imports="", run="trainer.run(a, max_epochs=1, seed=s)"))
    assert "from torch import manual_seed\n" in outcome.text
    assert "\nmanual_seed(s)\n" in outcome.text
    check_person(STEP.format(imports="", run="f = lambda: trainer.run(a, max_epochs=1, seed=s)"), "ignite-seed")


def test_a_seed_that_may_be_none_is_left_for_a_person():
    option = 'p.add_argument("--seed", type=int, default=None)\n'
    for given, before in (("args.seed", option), ("s", "s = 3\nif x:\n    s = None\n")):
        text = STEP.format(imports="", run=f"{before}trainer.run(a, max_epochs=1, seed={given})")
        reasons = [one.finding.reason for one in check_person(text, "ignite-seed").told]
        assert any("may be None" in one for one in reasons)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from ignite.contrib.handlers import ProgressBar", "from ignite.handlers import ProgressBar"),
        (
            "from ignite.contrib.handlers.tqdm_logger import ProgressBar as P",
            "from ignite.handlers.tqdm_logger import ProgressBar as P",
        ),
        ("from ignite.contrib.metrics import ROC_AUC", "from ignite.metrics import ROC_AUC"),
        ("from ignite.contrib.metrics.regression import R2Score", "from ignite.metrics.regression import R2Score"),
        ("from ignite.contrib import handlers", "from ignite import handlers"),
        ("import ignite.contrib.handlers.tqdm_logger as t", "import ignite.handlers.tqdm_logger as t"),
        (
            "import ignite.contrib.handlers\nignite.contrib.handlers.ProgressBar()",
            "import ignite.handlers\nignite.handlers.ProgressBar()",
        ),
    ],
)
def test_names_that_moved(before, after):
    check_transformed(f"{before}\n", f"{after}\n", rule="ignite-contrib")


@pytest.mark.parametrize(
    "text",
    [
        "from ignite.metrics import F1",
        "from ignite.metrics import Accuracy, BinaryAccuracy",
        "from ignite.contrib.handlers.custom_events import CustomPeriodicEvent",
        "from ignite.contrib.handlers.trains_logger import TrainsLogger",
    ],
)
def test_names_that_are_gone(text):
    check_person(f"{text}\n", "ignite-gone", 1)


def test_what_is_of_today_is_left():
    check_noop("from ignite.contrib.engines import common\nfrom ignite.contrib.engines.tbptt import Tbptt_Events\n")
    check_noop("from ignite.handlers import EarlyStopping\nEarlyStopping(3, f, t, min_delta=0.1)\n")


def test_what_moved_is_where_the_rule_says():
    """Each module of ignite.contrib.handlers and .metrics has its like, with the same names."""
    import ignite.contrib.handlers
    import ignite.contrib.metrics

    for module, home in ((ignite.contrib.handlers, "ignite.handlers"), (ignite.contrib.metrics, "ignite.metrics")):
        names = {
            name for name, one in vars(module).items() if inspect.isclass(one) and one.__module__.startswith("ignite")
        }
        assert names
        assert not {name for name in names if not hasattr(import_module(home), name)}


@pytest.mark.parametrize("value", ["-1", "0", "2.0", "True", "False", '"2"', "-1 if quick else 3", "steps / 4"])
def test_epochs_that_mean_something_else_are_left_for_a_person(value):
    for run in (f"trainer.run(a, max_epochs={value})", f"trainer.run(a, {value})"):
        outcome = check_person(STEP.format(imports="", run=run), "ignite-run", 8)
        assert "max_epochs" in outcome.told[0].finding.reason
        assert "int of at least 1" in outcome.told[0].finding.fix


EPOCHS = {
    "variable": "epochs = {0}\ntrainer.run(a, max_epochs=epochs)",
    "pair": "epochs, x = {0}, 1\ntrainer.run(a, max_epochs=epochs)",
    "annotated": "epochs: int = {0}\ntrainer.run(a, max_epochs=epochs)",
    "walrus": "if (epochs := {0}): pass\ntrainer.run(a, max_epochs=epochs)",
    "loop": "for epochs in (3, {0}):\n    trainer.run(a, max_epochs=epochs)",
    "default": "def go(epochs={0}):\n    trainer.run(a, max_epochs=epochs)",
    "argument": "def go(x, epochs):\n    trainer.run(a, max_epochs=epochs)\ngo(1, {0})",
    "keyword": "def go(x, epochs):\n    trainer.run(a, max_epochs=epochs)\ngo(1, epochs={0})",
    "method": "class T:\n    def go(self, epochs):\n        trainer.run(a, max_epochs=epochs)\nT().go({0})",
    "class": "class C:\n    epochs = {0}\ntrainer.run(a, max_epochs=C.epochs)",
    "field": "class C:\n    epochs: int = {0}\ncfg = C()\ntrainer.run(a, max_epochs=cfg.epochs)",
    "set": "cfg.epochs = {0}\ntrainer.run(a, max_epochs=cfg.epochs)",
    "self": "class T:\n    def __init__(self):\n        self.n = {0}\n    def go(self):\n        trainer.run(a, max_epochs=self.n)",
    "option": 'p.add_argument("-e", "--max-epochs", type=int, default={0})\ntrainer.run(a, max_epochs=args.max_epochs)',
    "computed": "n = {0}\nepochs = n\ntrainer.run(a, max_epochs=epochs or 3)",
}


@pytest.mark.parametrize("written", EPOCHS.values(), ids=EPOCHS)
def test_epochs_are_followed_to_where_they_come_from(written):
    for value in ("-1", "2.5", "float(x)", "numpy.int64(2)"):
        text = STEP.format(imports="import numpy", run=written.format(value))
        check_person(text, "ignite-run")
    for value in ("3", "int(x)", "None", "settings.n"):
        text = STEP.format(imports="import numpy", run=written.format(value))
        assert ".fit(from_engine(trainer), a)" in migrated(text).text


@pytest.mark.parametrize(
    "written",
    [
        'p.add_argument("--n", type=float, default=2)\ntrainer.run(a, max_epochs=args.n)',
        'p.add_argument("n", type=float)\ntrainer.run(a, max_epochs=args.n)',
        'p.add_argument("--epochs", dest="n", type=float)\ntrainer.run(a, max_epochs=2 * args.n)',
    ],
)
def test_options_that_are_floats_are_no_epochs(written):
    check_person(STEP.format(imports="", run=written), "ignite-run")
    assert ".fit(from_engine" in migrated(STEP.format(imports="", run=written.replace("float", "int"))).text


def test_limits_that_go_to_the_engine_stay_as_they_are():
    for name in ("max_iters", "epoch_length"):
        for value in ("-1", "0", "2.0", "True", "None"):
            runs(
                f"trainer.run(a, {name}={value})",
                f'UnifiedTrainer(framework="ignite").fit(from_engine(trainer, {name}={value}), a)',
            )
