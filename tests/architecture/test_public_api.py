"""The public names and signatures are those of public_api.txt: a change of the API is seen in the diff."""

import importlib.util
from pathlib import Path

from packaging.version import Version

import unitrain
from unitrain.session.trainer_controls import TrainerControls

spec = importlib.util.spec_from_file_location("public_api", Path(__file__).with_name("public_api.py"))
public_api = importlib.util.module_from_spec(spec)
spec.loader.exec_module(public_api)


def test_the_public_api_is_the_one_that_was_agreed_on():
    assert public_api.PAGE.read_text() == public_api.text(), "a change for users: CHANGELOG.md, then `make docs`"


def test_a_changed_signature_is_noticed(monkeypatch):
    monkeypatch.setattr(unitrain, "load_weights", lambda path, strict: None)
    assert public_api.PAGE.read_text() != public_api.text()


def test_no_deprecated_name_outlives_its_date():
    dated = [
        member.fget.__deprecation__
        for member in vars(TrainerControls).values()
        if isinstance(member, property) and hasattr(member.fget, "__deprecation__")
    ]
    assert [str(one) for one in dated]
    assert all(Version(one.remove) > Version(unitrain.__version__) for one in dated)
