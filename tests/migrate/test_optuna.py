"""Optuna scripts: old suggestions, storages in Redis, and what was in `optuna.integration`."""

import pytest

from tests.migrate.checks import check_noop, check_person, check_transformed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('trial.suggest_uniform("x", 0, 1)', 'trial.suggest_float("x", 0, 1)'),
        ('self.trial.suggest_loguniform("lr", 1e-5, 1e-1)', 'self.trial.suggest_float("lr", 1e-5, 1e-1, log=True)'),
        ('trial.suggest_loguniform("lr", *ends)', 'trial.suggest_float("lr", *ends, log=True)'),
        (
            'trial.suggest_loguniform(\n    "lr",\n    1e-5,\n    high=1e-1,  # more diverges\n)',
            'trial.suggest_float(\n    "lr",\n    1e-5,\n    high=1e-1,  # more diverges\n    log=True,\n)',
        ),
        ('t.suggest_discrete_uniform("x", 0, 2, 0.5)', 't.suggest_float("x", 0, 2, step=0.5)'),
        ('t.suggest_discrete_uniform("x", 0, 2, q=0.5)', 't.suggest_float("x", 0, 2, step=0.5)'),
    ],
)
def test_old_suggestions(before, after):
    check_transformed(f"import optuna\n{before}\n", f"import optuna\n{after}\n", rule="optuna-suggest")


@pytest.mark.parametrize("text", ["draw = trial.suggest_uniform", 'trial.suggest_discrete_uniform("x", *ends)'])
def test_suggestions_that_are_a_persons(text):
    check_person(f"import optuna\n{text}\n", "optuna-suggest", 2)


@pytest.mark.parametrize(
    "text",
    [
        'import optuna\ntrial.suggest_float("x", 0, 1)\ntrial.suggest_int("n", 1, 3)\n',
        'import optuna\nfrom unitrain.compat import optuna as old\nold.suggest_uniform(trial, "x", 0, 1)\n',
        "import optuna\nclass Mine:\n    def suggest_uniform(self, name): ...\nMine().suggest_uniform('x')\n",
        'trial.suggest_uniform("x", 0, 1)\n',
        "import optuna\nfrom optuna.storages import RDBStorage\nRDBStorage(url)\n",
        'import optuna\noptuna.create_study(storage="sqlite:///study.db", study_name="redis")\n',
        "import optuna\nfrom optuna_integration import PyTorchLightningPruningCallback\n",
        "from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock\nJournalFileBackend(path)\n",
        "from optuna.storages import JournalStorage\nfrom mine import JournalFileStorage\nJournalFileStorage(path)\n",
        "import optuna\nfrom mine.integration import RedisStorage\nRedisStorage(url)\n",
    ],
)
def test_what_is_not_old_stays(text):
    check_noop(text)


MAKE = "from unitrain.compat.optuna import make_storage\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            'import optuna\nstorage = optuna.integration.RedisStorage(url="redis://host", password=secret)\n',
            f'import optuna\n{MAKE}storage = make_storage(url="redis://host", password=secret)\n',
        ),
        (
            "import optuna\nfrom optuna.storages import RDBStorage, RedisStorage\nstorage = RedisStorage(url)\n",
            f"import optuna\nfrom optuna.storages import RDBStorage\n{MAKE}storage = make_storage(url)\n",
        ),
        (
            "import optuna\nfrom optuna.storages import RedisStorage as Store\nstorage = Store(url)\n",
            f"import optuna\n{MAKE}storage = make_storage(url)\n",
        ),
        (
            "import optuna\nfrom optuna.integration import RedisStorage\nstorage = RedisStorage(url)\n",
            f"import optuna\n{MAKE}storage = make_storage(url)\n",
        ),
        (
            'import optuna\nstudy = optuna.create_study(storage="redis://host:6379", study_name="a")\n',
            f'import optuna\n{MAKE}study = optuna.create_study(storage=make_storage("redis://host:6379"), study_name="a")\n',
        ),
    ],
)
def test_studies_in_redis(before, after):
    check_transformed(before, after, rule="optuna-redis")


@pytest.mark.parametrize(
    "text",
    [
        "optuna.storages.RedisStorage(url, heartbeat_interval=60)",
        "optuna.storages.RedisStorage(**given)",
        "optuna.storages.RedisStorage(url, 'secret')",
        "isinstance(storage, optuna.storages.RedisStorage)",
    ],
)
def test_storages_that_are_a_persons(text):
    check_person(f"import optuna\n{text}\n", "optuna-redis", 2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            """\
            from optuna.storages import JournalFileStorage, JournalStorage
            storage = JournalStorage(JournalFileStorage("study.log"))
            """,
            """\
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
            storage = JournalStorage(JournalFileBackend("study.log"))
            """,
        ),
        (
            """\
            def opened():
                from optuna.storages import (
                    JournalFileOpenLock as Lock,
                    JournalRedisStorage,
                )
                return JournalRedisStorage(url), Lock
            """,
            """\
            def opened():
                from optuna.storages.journal import JournalFileOpenLock as Lock, JournalRedisBackend
                return JournalRedisBackend(url), Lock
            """,
        ),
        (
            "import optuna\nlock = optuna.storages.JournalFileSymlinkLock(path)\n",
            "import optuna\nlock = optuna.storages.journal.JournalFileSymlinkLock(path)\n",
        ),
        (
            "from optuna import storages\nbackend = storages.JournalFileStorage\n",
            "from optuna import storages\nbackend = storages.journal.JournalFileBackend\n",
        ),
    ],
)
def test_journals(before, after):
    check_transformed(before, after, rule="optuna-journal")


@pytest.mark.parametrize(
    "text",
    [
        "from optuna.storages import (\n    JournalFileStorage,  # mine\n)\n",
        "import os; from optuna.storages import JournalFileStorage\n",
    ],
)
def test_journals_that_are_a_persons(text):
    check_person(text, "optuna-journal", 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "from optuna.integration import PyTorchLightningPruningCallback\n",
            "from optuna_integration import PyTorchLightningPruningCallback\n",
        ),
        (
            "from optuna.integration.pytorch_ignite import PyTorchIgnitePruningHandler as P\nP.x\n",
            "from optuna_integration.pytorch_ignite import PyTorchIgnitePruningHandler as P\nP.x\n",
        ),
        (
            "import optuna\ncallback = optuna.integration.TorchDistributedTrial(trial)\n",
            """\
            import optuna
            from optuna_integration import TorchDistributedTrial
            callback = TorchDistributedTrial(trial)
            """,
        ),
        (
            "import optuna.integration.sklearn as s\ns.OptunaSearchCV(model)\n",
            """\
            import optuna.integration.sklearn as s
            from optuna_integration import OptunaSearchCV
            OptunaSearchCV(model)
            """,
        ),
        (
            "from optuna.integration import RedisStorage, TFKerasPruningCallback\nRedisStorage(url)\n",
            """\
            from optuna_integration import TFKerasPruningCallback
            from unitrain.compat.optuna import make_storage
            make_storage(url)
            """,
        ),
    ],
)
def test_integrations(before, after):
    check_transformed(before, after, rule="optuna-integration")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("from optuna.integration import ChainerPruningExtension\n", "optuna-gone"),
        ("import optuna\noptuna.integration.SkoptSampler()\n", "optuna-gone"),
        ("from optuna.integration import *\n", "optuna-integration"),
    ],
)
def test_integrations_that_are_a_persons(text, rule):
    check_person(text, rule)


def test_the_callback_for_lightning_is_not_for_pytorch_lightning():
    text = """\
        import optuna
        {}
        from optuna_integration import PyTorchLightningPruningCallback
        callback = PyTorchLightningPruningCallback(trial, "val_loss")
        """
    check_person(text.format("import pytorch_lightning as pl"), "optuna-lightning", 4)
    check_noop(text.format("import lightning.pytorch as pl"))


def test_the_whole_old_snippet():
    before = """\
        import optuna
        from optuna.integration import PyTorchLightningPruningCallback


        def objective(trial):
            lr = trial.suggest_loguniform("lr", 1e-5, 1e-1)
            return train(lr, callbacks=[PyTorchLightningPruningCallback(trial, monitor="val_loss")])


        study = optuna.create_study(storage=optuna.integration.RedisStorage(url="redis://host", password="secret"))
        """
    after = """\
        import optuna
        from optuna_integration import PyTorchLightningPruningCallback
        from unitrain.compat.optuna import make_storage


        def objective(trial):
            lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
            return train(lr, callbacks=[PyTorchLightningPruningCallback(trial, monitor="val_loss")])


        study = optuna.create_study(storage=make_storage(url="redis://host", password="secret"))
        """
    check_transformed(before, after)
