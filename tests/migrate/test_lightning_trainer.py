"""pl.Trainer becomes UnifiedTrainer; each test is a script before and after."""

import pytest

from tests.migrate.checks import check_noop, check_person, check_transformed, families, told
from unitrain.migrate.engine import migrate_text
from unitrain.migrate.findings import Goal, Severity


def test_a_script():
    check_transformed(
        """\
        import pytorch_lightning as pl

        model = Model()
        trainer = pl.Trainer(max_epochs=3, logger=False, callbacks=[pl.callbacks.EarlyStopping("x")])
        trainer.fit(model, train, val)  # goes
        print(trainer.callback_metrics["x"], trainer.current_epoch)
        """,
        """\
        import pytorch_lightning as pl
        from unitrain import UnifiedTrainer

        model = Model()
        trainer = UnifiedTrainer(framework="lightning", max_epochs=3, callbacks=[pl.callbacks.EarlyStopping("x")], native={"lightning": {"logger": False}})
        trainer.fit(model, train, val)  # goes
        print(trainer.foreign_trainer.callback_metrics["x"], trainer.foreign_trainer.current_epoch)
        """,
        rule="lightning-trainer",
    )


@pytest.mark.parametrize(
    ("imports", "name"),
    [
        ("import pytorch_lightning as pl", "pl.Trainer"),
        ("import pytorch_lightning", "pytorch_lightning.Trainer"),
        ("import lightning as L", "L.Trainer"),
        ("import lightning.pytorch as pl", "pl.Trainer"),
        ("import lightning", "lightning.pytorch.Trainer"),
        ("from lightning import pytorch as pl", "pl.Trainer"),
        ("from pytorch_lightning import seed_everything, Trainer as T", "T"),
        ("from pytorch_lightning.trainer import Trainer", "Trainer"),
        ("from lightning.pytorch.trainer.trainer import Trainer", "Trainer"),
    ],
)
def test_every_way_to_import_it(imports, name):
    from tests.migrate.checks import migrated

    text = migrated(f"{imports}\ntrainer = {name}(max_epochs=1)\ntrainer.fit(m)\n").text
    assert 'trainer = UnifiedTrainer(framework="lightning", max_epochs=1)\n' in text
    assert "import UnifiedTrainer\n" in text


@pytest.mark.parametrize(("to", "word"), [("unitrain", "lightning"), ("lightning", "lightning"), ("ignite", "ignite")])
def test_the_word_is_what_was_asked_for(to, word):
    check_transformed(
        "from lightning import seed_everything, Trainer\nTrainer().fit(m)\n",
        f'from lightning import seed_everything\nfrom unitrain import UnifiedTrainer\nUnifiedTrainer(framework="{word}").fit(m)\n',
        to,
    )


def test_a_migrated_script_is_switched_by_one_word():
    before = 'from unitrain import UnifiedTrainer\nUnifiedTrainer(framework="lightning", max_epochs=1).fit(m)\n'
    check_transformed(before, before.replace("lightning", "ignite"), "ignite", rule="unitrain-framework")
    check_noop(before)
    check_noop(before, "lightning")
    check_person(before.replace('"lightning"', "args.framework"), "unitrain-framework", 2, "ignite")


def test_comments_and_layout_stay_with_their_arguments():
    check_transformed(
        """\
        from pytorch_lightning import LightningModule, Trainer

        def main():
            trainer = Trainer(
                # how long
                max_epochs=3,  # three
                logger=logger,  # the tracker
                gradient_clip_val=0.5,
                profiler=make(
                    1,
                ),
            )
            trainer.fit(model)
        """,
        """\
        from pytorch_lightning import LightningModule
        from unitrain import UnifiedTrainer

        def main():
            trainer = UnifiedTrainer(
                # how long
                framework="lightning",
                max_epochs=3,  # three
                gradient_clip_val=0.5,
                native={
                    "lightning": {
                        "logger": logger,  # the tracker
                        "profiler": make(
                            1,
                        ),
                    },
                },
            )
            trainer.fit(model)
        """,
    )


def test_what_unitrain_would_refuse_goes_to_lightning_itself():
    check_transformed(
        """\
        import lightning as L
        L.Trainer(max_epochs=0, strategy="deepspeed", devices=1 if cuda else None, limit_val_batches=None, max_steps=5).fit(m)
        """,
        """\
        import lightning as L
        from unitrain import UnifiedTrainer
        UnifiedTrainer(framework="lightning", max_steps=5, native={"lightning": {"max_epochs": 0, "strategy": "deepspeed", "devices": 1 if cuda else None}}).fit(m)
        """,
    )


def test_a_single_callback_becomes_a_list():
    check_transformed(
        "import lightning as L\nL.Trainer(callbacks=L.pytorch.callbacks.Timer()).fit(m)\n",
        "import lightning as L\nfrom unitrain import UnifiedTrainer\n"
        'UnifiedTrainer(framework="lightning", callbacks=[L.pytorch.callbacks.Timer()]).fit(m)\n',
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("trainer.fit(model, train, val)", "trainer.fit(model, train, val)"),
        ("trainer.fit(model=model, datamodule=dm)", "trainer.fit(spec=model, train_dataloaders=dm)"),
        (
            "trainer.fit(model, train_dataloader=a, val_dataloaders=b)",
            "trainer.fit(model, train_dataloaders=a, val_dataloaders=b)",
        ),
        ("trainer.fit(model, dm, ckpt_path=p)", "trainer.fit(model, dm, ckpt_path=p)"),
        ("trainer.fit(model, *loaders)", "trainer.fit(model, *loaders)"),
        ("trainer.fit(model, train, datamodule=None)", "trainer.fit(model, train)"),
        ("trainer.test()", "trainer.test()"),
        ("trainer.test(model, datamodule=dm, verbose=False)", "trainer.test(model, dataloaders=dm, verbose=False)"),
        ('trainer.test(ckpt_path="best", datamodule=dm)', 'trainer.test(ckpt_path="best", dataloaders=dm)'),
        ("trainer.test(test_dataloaders=loader)", "trainer.test(dataloaders=loader)"),
        ("found = trainer.test(model, DataLoader(d))", "found = [trainer.test(model, DataLoader(d))]"),
        ("d = DataLoader(x)\nfound = trainer.test(model, d)[0]", "d = DataLoader(x)\nfound = trainer.test(model, d)"),
        (
            'def validation_step(self, b, i): pass\nprint(trainer.validate(model, dataloaders=d)[0]["x"])',
            'def validation_step(self, b, i): pass\nprint(trainer.validate(model, dataloaders=d)["x"])',
        ),
        ("found = trainer.predict(model, datamodule=dm)", "found = trainer.predict(model, dataloaders=dm)"),
        ("trainer.predict(model, d, return_predictions=False)", "trainer.predict(model, d)"),
        ("x = trainer.predict(model, d, return_predictions=True)", "x = trainer.predict(model, d)"),
        ("trainer.save_checkpoint('a.ckpt')", "trainer.save_checkpoint('a.ckpt')"),
        ("trainer.save_checkpoint(filepath='a.ckpt')", "trainer.save_checkpoint(path='a.ckpt')"),
        (
            "trainer.save_checkpoint('a', weights_only=True)",
            "trainer.foreign_trainer.save_checkpoint('a', weights_only=True)",
        ),
        (
            "best = trainer.checkpoint_callback.best_model_path",
            "best = trainer.foreign_trainer.checkpoint_callback.best_model_path",
        ),
        (
            "trainer.test(model, ckpt_path=trainer.log_dir)",
            "trainer.test(model, ckpt_path=trainer.foreign_trainer.log_dir)",
        ),
        ("if trainer is not None: pass", "if trainer is not None: pass"),
        ("print(trainer)", "print(trainer)"),
        ("trainer.logger.log_metrics({})", "trainer.foreign_trainer.logger.log_metrics({})"),
        ("f = lambda: trainer.global_step", "f = lambda: trainer.foreign_trainer.global_step"),
    ],
)
def test_what_is_done_with_it(before, after):
    script = "import pytorch_lightning as pl\n{}trainer = {}\n{}\n"
    check_transformed(
        script.format("", "pl.Trainer()", before),
        script.format("from unitrain import UnifiedTrainer\n", 'UnifiedTrainer(framework="lightning")', after),
    )


@pytest.mark.parametrize(
    "use",
    [
        "trainer.fit(model, train, val, datamodule=dm, train_dataloaders=x)",
        "trainer.fit(model, **data)",
        "trainer.test(*data)",
        "x = trainer.predict(model, d, return_predictions=False)",
        "trainer.fit(model, d, nonsense=1)",
        "found = trainer.test(model, loader)",
        "found = trainer.test(model, datamodule=dm)[0]",
    ],
)
def test_a_run_that_cannot_be_called_alike_is_left_for_a_person(use):
    check_person(f"import pytorch_lightning as pl\ntrainer = pl.Trainer()\n{use}\n", "lightning-run", 3)


def test_a_module_beside_the_script_tells_how_many_loaders_there_may_be(tmp_path):
    text = "import pytorch_lightning as pl\nfrom model import M\ntrainer = pl.Trainer()\nfound = trainer.test(M())\n"
    goal = Goal(folder=str(tmp_path))
    for given, several in (("self, b, i", False), ("self, b, i, dataloader_idx=0", True)):
        (tmp_path / "model.py").write_text(f"class M:\n    def test_step({given}): pass\n")
        assert migrate_text(text, families(), goal).has(Severity.PERSON) is several


def test_it_is_followed_through_attributes_functions_and_returns():
    check_transformed(
        """\
        import pytorch_lightning as pl

        class Experiment:
            def __init__(self):
                self.trainer = pl.Trainer()
                self.other = 1

            def go(self):
                self.trainer.fit(self.model)
                return self.trainer.callback_metrics, self.other.callback_metrics

        def build(n) -> pl.Trainer:
            return pl.Trainer(max_epochs=n)

        def use(model, *, runner):
            runner.fit(model, datamodule=dm)
            print(runner.global_step)

        def main():
            trainer: pl.Trainer = build(3)
            use(model, runner=trainer)
            alias = trainer
            alias.test(model)
            return trainer.logger

        main()
        """,
        """\
        import pytorch_lightning as pl
        from unitrain import UnifiedTrainer

        class Experiment:
            def __init__(self):
                self.trainer = UnifiedTrainer(framework="lightning")
                self.other = 1

            def go(self):
                self.trainer.fit(self.model)
                return self.trainer.foreign_trainer.callback_metrics, self.other.callback_metrics

        def build(n) -> pl.Trainer:
            return UnifiedTrainer(framework="lightning", max_epochs=n)

        def use(model, *, runner):
            runner.fit(model, train_dataloaders=dm)
            print(runner.foreign_trainer.global_step)

        def main():
            trainer: UnifiedTrainer = build(3)
            use(model, runner=trainer)
            alias = trainer
            alias.test(model)
            return trainer.foreign_trainer.logger

        main()
        """,
    )


@pytest.mark.parametrize(
    ("script", "rule", "line"),
    [
        ("t = pl.Trainer(**kwargs)\nt.fit(m)", "lightning-trainer", 2),
        ("t = pl.Trainer(False, 3)\nt.fit(m)", "lightning-trainer", 2),
        ("t = pl.Trainer()\nother(t)", "lightning-escapes", 3),
        ("class T(pl.Trainer):\n    pass", "lightning-escapes", 2),
        ("make = pl.Trainer\nmake().fit(m)", "lightning-escapes", 2),
        ("def f():\n    t = pl.Trainer()\n    return t", "lightning-escapes", 4),
        ("t = pl.Trainer()\nt = other()\nt.fit(m)", "lightning-escapes", 3),
        ("t = pl.Trainer()\nall = [t]", "lightning-escapes", 3),
        ("UnifiedTrainer = 3\npl.Trainer().fit(m)", "lightning-trainer", 3),
    ],
)
def test_what_cannot_be_seen_is_left_for_a_person(script, rule, line):
    check_person(f"import pytorch_lightning as pl\n{script}\n", rule, line)


def test_nothing_is_converted_beside_something_that_is_not():
    before = (
        "import lightning as L\nL.Trainer(gpus=1).fit(m)\nt = L.Trainer(**kwargs)\nt.fit(m, datamodule=dm)\nt.logger\n"
    )
    outcome = check_person(before, "lightning-trainer", 3)
    assert told(outcome) == [(3, "lightning-trainer", "person")]


def test_keywords_of_a_function_whose_calls_are_seen():
    check_transformed(
        """\
        import lightning as L

        def fit(model, **kwargs):
            L.Trainer(logger=False, **kwargs).fit(model)

        fit(m, max_epochs=1)
        fit(m, max_steps=3, inference_mode=False)
        """,
        """\
        import lightning as L
        from unitrain import UnifiedTrainer

        def fit(model, **kwargs):
            UnifiedTrainer(framework="lightning", native={"lightning": {"logger": False, **{name: kwargs.pop(name) for name in ("inference_mode",) if name in kwargs}}}, **kwargs).fit(model)

        fit(m, max_epochs=1)
        fit(m, max_steps=3, inference_mode=False)
        """,
    )
    check_transformed(
        "import lightning as L\noptions = dict(max_epochs=1)\nL.Trainer(**options).fit(m)\n",
        "import lightning as L\nfrom unitrain import UnifiedTrainer\noptions = dict(max_epochs=1)\n"
        'UnifiedTrainer(framework="lightning", **options).fit(m)\n',
    )


@pytest.mark.parametrize(
    "script",
    [
        "def fit(**kwargs):\n    L.Trainer(**kwargs).fit(m)\nfit(**more)",
        "def fit(**kwargs):\n    L.Trainer(**kwargs).fit(m)\nrun(fit)",
        "def fit(**kwargs):\n    L.Trainer(**kwargs).fit(m)\nfit(gpus=1)",
        "def fit(**kwargs):\n    print(kwargs)\n    L.Trainer(**kwargs).fit(m)\nfit(max_epochs=1)",
        "options = {key: 1}\nL.Trainer(**options).fit(m)",
        "options = {'max_epochs': 1}\noptions['x'] = 2\nL.Trainer(**options).fit(m)",
    ],
)
def test_keywords_that_cannot_be_seen(script):
    check_person(f"import lightning as L\n{script}\n", "lightning-trainer")


def test_files_without_a_trainer_are_left():
    check_noop(
        "import pytorch_lightning as pl\nclass M(pl.LightningModule):\n    def training_step(self, b, i): return 1\n"
    )
    check_noop("from mine import Trainer\nimport lightning as L\nTrainer(gpus=1).fit(m, datamodule=dm)\n")
    check_noop("trainer = Trainer(max_epochs=3)\n")


def test_names_that_come_by_a_star_are_left_for_a_person():
    check_person("from pytorch_lightning import *\nTrainer(gpus=1).fit(m)\n", "lightning-escapes", 1)
    check_person("from ignite.engine import *\nEngine(step).run(d)\n", "ignite-role", 1)
    check_noop("from pytorch_lightning import *\nclass M(LightningModule): pass\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [("Mine()", "[Mine()]"), ("mine", "[mine]"), ("some", "some"), ("either", "either"), ("given()", "given()")],
)
def test_a_single_callback_becomes_a_list_of_one(before, after):
    head = """\
import lightning.pytorch as pl
from lightning.pytorch import callbacks
"""
    rest = """
class Mine(callbacks.Callback):
    pass

mine = Mine()
some = [Mine()]
either = Mine()
either = [either]
"""
    check_transformed(
        f"{head}{rest}pl.Trainer(callbacks={before}).fit(m)\n",
        f"{head}from unitrain import UnifiedTrainer\n{rest}"
        f'UnifiedTrainer(framework="lightning", callbacks={after}).fit(m)\n',
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("trainer = pl.Trainer()\ntrainer.callbacks.append(x)\ntrainer.fit(m)", 3),
        ("def main():\n    trainer = pl.Trainer()\n    trainer.logger = x\n    trainer.fit(m)", 4),
        ("def make():\n    t = pl.Trainer()\n    print(t.logger)\n    return t\nmake().fit(m)", 4),
    ],
)
def test_what_is_used_before_the_first_run_is_left_for_a_person(text, line):
    check_person(f"import lightning.pytorch as pl\n{text}\n", "lightning-attribute", line)
