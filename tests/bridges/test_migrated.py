"""`unitrain migrate --write` on each script: what it makes trains on each backend with the trace of the original."""

import pytest

from tests.bridges.running import BACKENDS, PATHS, home_of, natively
from tests.bridges.test_scripts import name
from tests.bridges.trace import difference, unproved
from unitrain import cli

CHANGES, NOTHING = 1, 0
FAST = {"lightning-mlp_classifier-to-ignite", "ignite-mlp_classifier-to-lightning"}


def tiered(path, backend):
    label = f"{name(path)}-to-{backend}"
    return pytest.param(path, backend, id=label, marks=() if label in FAST else pytest.mark.slow)


@pytest.mark.parametrize(("path", "backend"), [tiered(path, one) for path in PATHS for one in BACKENDS])
def test_a_migrated_script_does_the_same(path, backend, native, tmp_path, capsys):
    copy = tmp_path / path.name
    copy.write_text(path.read_text())
    assert cli.main(["migrate", str(copy), "--to", backend, "--write"]) == CHANGES, capsys.readouterr().out
    made = copy.read_text()

    wanted, got = native(path), natively(copy)
    assert not difference(wanted, got)
    assert not unproved(got, backend, wanted)

    assert cli.main(["migrate", str(copy), "--to", backend, "--write"]) == NOTHING
    assert copy.read_text() == made
    assert (tmp_path / f"{path.name}.orig").read_text() == path.read_text()
    assert home_of(path) in path.parts
