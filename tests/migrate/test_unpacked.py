"""Removed arguments in a ``**mapping`` that the file writes out: a person is told where they are."""

import pytest

from tests.migrate.checks import check_noop, check_person

IGNITE = "from ignite.handlers import ModelCheckpoint\nfrom ignite.handlers.tensorboard_logger import OutputHandler\n"
LIGHTNING = "from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint\n"


@pytest.mark.parametrize(
    "written",
    [
        "options = dict(n_saved=2, {0}={1})\n{2}(x, **options)",
        'options = {{"n_saved": 2, "{0}": {1}}}\n{2}(x, **options)',
        '{2}(x, **{{"{0}": {1}}})',
        "{2}(x, **dict({0}={1}))",
        "class C:\n    options = dict({0}={1})\n    def f(self):\n        {2}(x, **self.options)",
    ],
)
@pytest.mark.parametrize(
    ("imports", "name", "value", "made", "rule"),
    [
        (IGNITE, "save_interval", "2", "ModelCheckpoint", "ignite-keywords"),
        (IGNITE, "another_engine", "e", "OutputHandler", "ignite-keywords"),
        (LIGHTNING, "period", "2", "ModelCheckpoint", "lightning-callback-arguments"),
        (LIGHTNING, "mode", '"auto"', "EarlyStopping", "lightning-callback-arguments"),
    ],
)
def test_an_argument_that_is_gone_is_told(written, imports, name, value, made, rule):
    check_person(imports + written.format(name, value, made) + "\n", rule)
    check_noop(imports + written.format("n_saved", value, made) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        "options = load()\nModelCheckpoint(x, **options)\n",
        'options = {**more, key: 1, "mode": "min"}\nModelCheckpoint(x, **options)\n',
        "ModelCheckpoint(x, **load())\n",
        'other(x, **{"save_interval": 2, "period": 2})\n',
    ],
)
def test_a_mapping_that_is_not_seen_or_has_nothing_old_is_left(text):
    check_noop(IGNITE + text)
    check_noop(LIGHTNING + text)
