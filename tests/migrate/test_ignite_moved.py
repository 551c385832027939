"""Names of Ignite that are read off ``ignite.contrib``, whatever it is called in the file."""

import pytest

from tests.migrate.checks import check_noop, check_person, check_transformed


@pytest.mark.parametrize(
    ("imports", "before", "after"),
    [
        ("from ignite import contrib", "contrib.handlers.ProgressBar()", "handlers.ProgressBar()"),
        ("from ignite import contrib as c", "c.metrics.ROC_AUC()", "metrics.ROC_AUC()"),
        ("import ignite.contrib as c", "c.handlers.tqdm_logger.ProgressBar()", "handlers.tqdm_logger.ProgressBar()"),
        ("from ignite import contrib", "def f():\n    return contrib.metrics", "def f():\n    return metrics"),
    ],
)
def test_an_alias_of_contrib_is_followed(imports, before, after):
    """The import that loaded its part is rewritten, so nothing else may read the part off it."""
    loads = "from ignite.{}handlers.lr_finder import FastaiLRFinder\n"
    part = "metrics" if "metrics" in after else "handlers"
    check_transformed(
        f"{imports}\n{loads.format('contrib.')}{before}\n",
        f"{imports}\n{loads.format('')}from ignite import {part}\n{after}\n",
        rule="ignite-contrib",
    )


def test_an_alias_of_ignite_is_followed():
    before = (
        "import ignite as i\nfrom ignite.contrib.handlers import LRScheduler\nx = i.contrib.handlers.ProgressBar()\n"
    )
    check_transformed(before, before.replace(".contrib", ""), rule="ignite-contrib")
    check_noop("import ignite as i\nfrom ignite import contrib\ni.contrib.engines\ncontrib.engines.common\n")


LOADS = "from ignite.contrib.handlers import LRScheduler\n"


@pytest.mark.parametrize(
    "text",
    [
        "from ignite import contrib\nhandlers = []\ncontrib.handlers.ProgressBar()\n",
        "from ignite import contrib\ndef f(handlers):\n    contrib.handlers.ProgressBar()\n",
        f"from ignite import contrib\n{LOADS}f(contrib)\n",
        f"from ignite import contrib\n{LOADS}c = contrib\nc.handlers.ProgressBar()\n",
        f"import ignite\n{LOADS}c = ignite.contrib\nc.handlers.ProgressBar()\n",
        f"from ignite import *\n{LOADS}contrib.handlers.ProgressBar()\n",
    ],
)
def test_an_alias_of_contrib_that_cannot_be_followed(text):
    check_person(text, "ignite-contrib")


@pytest.mark.parametrize(
    "text",
    [
        "from ignite import contrib\ncontrib.handlers.CustomPeriodicEvent()\n",
        "import ignite\nignite.contrib.handlers.trains_logger.TrainsLogger()\n",
        "from ignite import metrics\nmetrics.F1()\n",
    ],
)
def test_a_name_that_is_gone_is_found_where_it_is_read_off_its_module(text):
    check_person(text, "ignite-gone", 2)
