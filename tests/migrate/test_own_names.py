"""Names of unitrain's own that moved or were renamed."""

from importlib import import_module
from types import ModuleType

import pytest

from tests.migrate.checks import check_noop, check_person, check_transformed, migrated, told
from unitrain.migrate.own_names import PLACES


@pytest.mark.parametrize("old", PLACES)
def test_names_are_gone_from_the_old_place_and_found_in_the_new_one(old):
    module, _, name = old.rpartition(".")
    assert hasattr(import_module(PLACES[old]), name)
    try:
        left = getattr(import_module(module), name)
    except (ModuleNotFoundError, AttributeError):
        return
    assert isinstance(left, ModuleType)  # unitrain.metrics.metric is one today


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from unitrain.events import Event\n", "from unitrain import Event\n"),
        (
            "from unitrain.events import Event as E, RunState  # seen by handlers\n",
            "from unitrain import Event as E, RunState  # seen by handlers\n",
        ),
        ("from unitrain.distributed.strategy import (\n    DDP,\n)\n", "from unitrain import (\n    DDP,\n)\n"),
        (
            "from unitrain.checkpoint.parts import consolidate\n",
            "from unitrain.checkpoint.sharded_files import consolidate\n",
        ),
        (
            "import unitrain.events\n@trainer.on(unitrain.events.Event.FIT_END)\ndef end(): pass\n",
            "import unitrain\n@trainer.on(unitrain.Event.FIT_END)\ndef end(): pass\n",
        ),
        (
            "import unitrain.checkpoint.parts\nunitrain.checkpoint.parts.consolidate(a, b)\n",
            "import unitrain.checkpoint.sharded_files\nunitrain.checkpoint.sharded_files.consolidate(a, b)\n",
        ),
        (
            "import unitrain.rng as rng\nrng.seed_everything(1)\n",
            "import unitrain as rng\nrng.seed_everything(1)\n",
        ),
        (
            "from unitrain import engines\nengines.from_step(step)\n",
            "import unitrain as engines\nengines.from_step(step)\n",
        ),
        (
            "def late():\n    from unitrain.lr_finder import LRFinder\n    return LRFinder()\n",
            "def late():\n    from unitrain import LRFinder\n    return LRFinder()\n",
        ),
    ],
)
@pytest.mark.parametrize("to", ["unitrain", "ignite"])
def test_moved_names(before, after, to):
    check_transformed(before, after, to, rule="unitrain-moved")


@pytest.mark.parametrize(
    "text",
    [
        "from unitrain.events import Event, EventHub\n",
        "from unitrain.events import *\n",
        "import unitrain.events\nunitrain.events.Event, unitrain.events.EventHub\n",
        "from unitrain import events\nevents.Event, events.EventHub\n",
    ],
)
def test_private_names_are_a_persons(text):
    check_person(text, "unitrain-moved", 1)


@pytest.mark.parametrize(
    "text",
    [
        "from unitrain import Event, UnifiedTrainer\n",
        "import unitrain\nunitrain.Event\n",
        "from unitrain.data import batches\nfrom unitrain.metrics import meter\n",
        "from unitrain.callbacks import EarlyStopping\n",
        "from unitrain.distributed.ray import RayTrainer\n",
        "import unitrain\nfrom mine.events import Event\n",
        "import unitrain\nfrom .events import Event\n",
    ],
)
def test_what_is_where_it_was_stays(text):
    check_noop(text)


OF_A_CLASS = """\
from unitrain import UnifiedTrainer
class Run:
    def __init__(self):
        self.trainer = UnifiedTrainer("ignite")
    def show(self):
        return self.trainer.bridged.state
"""


@pytest.mark.parametrize(
    "before",
    [
        'from unitrain import UnifiedTrainer\nt = UnifiedTrainer("ignite")\nt.fit(module)\nprint(t.bridged.current_epoch)\n',
        'import unitrain as u\nt = u.UnifiedTrainer("ignite")\nepoch = t.bridged\n',
        'from unitrain import UnifiedTrainer\nprint(UnifiedTrainer("ignite").bridged)\n',
        "from unitrain import UnifiedTrainer\ndef show(trainer: UnifiedTrainer):\n    print(trainer.bridged)\n",
        OF_A_CLASS,
    ],
)
def test_renamed_attributes(before):
    check_transformed(before, before.replace(".bridged", ".foreign_trainer"), rule="unitrain-renamed")


@pytest.mark.parametrize(
    "text",
    [
        'from unitrain import UnifiedTrainer\nt = UnifiedTrainer("ignite")\nprint(t.foreign_trainer, other.bridged)\n',
        "from unitrain import UnifiedTrainer\ndef show(trainer):\n    print(trainer.bridged)\n",
        'from unitrain import UnifiedTrainer\nt = UnifiedTrainer("ignite")\nt = network()\nt.bridged\n',
    ],
)
def test_attributes_of_others_stay(text):
    check_noop(text)


def test_both_in_one_file():
    before = """\
        from unitrain.events import Event
        from unitrain.trainer import UnifiedTrainer

        trainer = UnifiedTrainer("lightning")


        @trainer.on(Event.FIT_END)
        def end():
            print(trainer.bridged)
        """
    after = before.replace("unitrain.events", "unitrain").replace("bridged", "foreign_trainer")
    check_transformed(before, after)
    check_transformed(before, after.replace('"lightning"', '"ignite"'), "ignite")


def test_a_rule_that_is_disabled_leaves_it():
    text = "from unitrain import UnifiedTrainer\nprint(UnifiedTrainer('ignite').bridged)\n"
    assert migrated(text, disabled=("unitrain-renamed",)).text == text
    text = "from unitrain.events import Event\n"
    outcome = migrated(text, disabled=("unitrain-moved",))
    assert outcome.text == text
    assert told(outcome) == [(1, "unitrain-moved", "person")]  # without it the script does not run
