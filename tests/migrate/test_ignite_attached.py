"""Ignite scripts in the manners that public ones have: engines from elsewhere, properties, lambdas, old arguments."""

import pytest

from tests.migrate.checks import check_noop, check_person, check_transformed, migrated

FIT = 'UnifiedTrainer(framework="ignite", max_epochs=2).fit(from_engine({}), loader)'


def fitted(text, name):
    outcome = migrated(text)
    assert FIT.format(name) in outcome.text, [str(one.finding) for one in outcome.told]


# --- what an engine is ------------------------------------------------------------------------------------------------

ELSEWHERE = """\
from ignite.engine import Events
from library import make

trainer = make(net)

@trainer.on(Events.EPOCH_COMPLETED)
def show(engine):
    print(engine.state.epoch)

trainer.run({}){}
"""


@pytest.mark.parametrize("given", ["", "loader"])
def test_what_has_handlers_is_an_engine_wherever_it_comes_from(given):
    check_person(ELSEWHERE.format(given, ""), "ignite-role", 10)


def test_a_comment_says_what_an_engine_from_elsewhere_does():
    fitted(ELSEWHERE.format("loader, 2", "  # unitrain: trainer"), "trainer")
    check_noop(ELSEWHERE.format("loader, 2", "  # unitrain: evaluator"))


@pytest.mark.parametrize(
    "handler",
    [
        "@trainer.on(Events.EPOCH_COMPLETED)\ndef check(_):\n    judge.run(loader)",
        "def check(_):\n    judge.run(loader)\ntrainer.add_event_handler(Events.EPOCH_COMPLETED, check)",
        "trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: judge.run(loader))",
    ],
)
def test_what_a_handler_runs_and_is_not_known_stays(handler):
    check_noop(
        "from ignite.engine import Events\nfrom library import judge, trainer\n"
        f"judge.add_event_handler(Events.COMPLETED, show)\n{handler}\n"
    )


def test_handlers_of_anything_else_tell_nothing():
    check_noop("import ignite\nfrom gui import Events, app\napp.on(Events.CLICKED)\napp.run(1)\n")


PROPERTY = """\
from ignite.engine import Engine

class Experiment:
    {decorator}
    def trainer(self):
        if self._trainer is None:
            engine = Engine(self.step)
            self._trainer = engine
        return self._trainer

    def step(self, engine, batch):
        loss(batch).backward()

    def go(self):
        {run}
"""


@pytest.mark.parametrize("decorator", ["@property", "@cached_property", "@functools.cached_property"])
@pytest.mark.parametrize(
    ("run", "name"),
    [
        ("self.trainer.run(loader, 2)", "self.trainer"),
        ("engine = self.trainer\n        engine.run(loader, 2)", "engine"),
    ],
)
def test_a_property_holds_its_engine(decorator, run, name):
    fitted(PROPERTY.format(decorator=decorator, run=run), name)


def test_a_method_is_no_property():
    text = PROPERTY.format(decorator="@staticmethod", run="self.trainer.run(loader, 2)")
    assert migrated(text).text == text


def test_a_lambda_that_is_a_handler_may_train():
    before = "from ignite.engine import Engine, Events\ninner = Engine(lambda e, b: f(b).backward())\n"
    fitted(before + "outer.add_event_handler(Events.STARTED, lambda _: inner.run(loader, 2))\n", "inner")
    check_person(before + "go = lambda: inner.run(loader, 2)\n", "ignite-run", 3)


def test_a_star_leaves_what_is_imported_by_name():
    named = "from ignite.engine import Engine\nfrom ignite.handlers.tensorboard_logger import *\n"
    fitted(named + "t = Engine(lambda e, b: f(b).backward())\nt.run(loader, 2)\n", "t")
    check_person("from ignite.engine import *\nt = Engine(step)\nt.run(loader, 2)\n", "ignite-role", 1)


# --- arguments that are gone ------------------------------------------------------------------------------------------

CHECKPOINT = "from ignite.handlers import ModelCheckpoint\nkept = ModelCheckpoint({})\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("'a', 'b', save_interval=1, n_saved=2", "'a', 'b', n_saved=2"),
        ("'a', 'b', save_interval=None", "'a', 'b'"),
        ("'a', 'b', n_saved=2, save_as_state_dict=True", "'a', 'b', n_saved=2"),
    ],
)
def test_arguments_that_mean_nothing_now_are_left_out(before, after):
    check_transformed(CHECKPOINT.format(before), CHECKPOINT.format(after), rule="ignite-keywords")


@pytest.mark.parametrize(
    "given",
    ["'a', 'b', save_interval=5", "'a', 'b', save_interval=n", "'a', 'b', save_as_state_dict=False", "'a', 'b', 3"],
)
def test_arguments_that_meant_something_are_told(given):
    check_person(CHECKPOINT.format(given), "ignite-keywords", 2)


def test_arguments_of_today_stay():
    check_noop(CHECKPOINT.format("'a', 'b', score, 'acc', 3"))
    check_noop("from mine import ModelCheckpoint\nkept = ModelCheckpoint('a', save_interval=2)\n")


def test_the_engine_that_counts_becomes_a_transform():
    check_transformed(
        "from ignite.handlers import *\nlog = OutputHandler('val', ['x'], another_engine=trainer)\n",
        "from ignite.handlers import *\nfrom ignite.handlers import global_step_from_engine\n"
        "log = OutputHandler('val', ['x'], global_step_transform=global_step_from_engine(trainer))\n",
        rule="ignite-keywords",
    )


def test_private_helpers_are_public():
    check_transformed(
        "from ignite._utils import convert_tensor\n", "from ignite.utils import convert_tensor\n", rule="ignite-utils"
    )
    check_person("from ignite._utils import convert_tensor, to_variable\n", "ignite-gone", 1)
