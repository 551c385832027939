"""The wheel in empty environments: by pip, by uv, and with each extra by itself."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.release import environments, features
from tests.release.building import EXTRAS, ROOT
from tests.release.environments import TORCH, Environment
from unitrain.cli.commands import COMMANDS
from unitrain.errors import install_hint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="session")
def base(wheel, tmp_path_factory):
    """Return an environment with torch and the wheel, without any extra."""
    made = Environment(tmp_path_factory.mktemp("base") / "environment")
    made.install(TORCH)
    made.install(wheel)
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture
def feature(tmp_path):
    """Return what uses the feature of an extra in an environment, and returns what is printed."""
    shutil.copy(features.__file__, tmp_path / "features.py")
    folder = tmp_path / "empty"
    folder.mkdir()

    def use(environment, extra):
        return environments.run(environment.python, tmp_path / "features.py", extra, cwd=folder, check=False)

    return use


def works(said):
    return said.splitlines()[-1:] == ["works"]


def test_every_extra_has_a_feature_that_is_tried():
    assert features.FEATURES.keys() | {"all"} == EXTRAS.keys()


def test_the_wheel_is_all_that_is_needed(base, tmp_path):
    assert "No broken requirements" in environments.run(base.python, "-m", "pip", "check")
    code = "import unitrain, unitrain_lightning, unitrain_ignite; print(unitrain.__version__, unitrain.__file__)"
    version, place = environments.run(base.python, "-c", code, cwd=tmp_path).split()
    assert place.startswith(str(base.packages))
    assert version in environments.run(base.python, "-m", "pip", "show", "pytorch-unitrain")
    (tmp_path / "features.py").write_text((ROOT / "tests/release/features.py").read_text())
    fitted = environments.run(base.python, "-c", "import features; print(features.fit()[1].step)", cwd=tmp_path)
    assert fitted.split() == ["3"]


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_each_command_has_its_help(base, command, tmp_path):
    """Also those whose extra is missing; they may say so instead."""
    arguments = ["--help"] if command is None else [command, "--help"]
    said = environments.run(base.program("unitrain"), *arguments, cwd=tmp_path, check=False)
    assert "Traceback" not in said
    assert said.startswith("usage: unitrain") or "Hint: pip install 'pytorch-unitrain[" in said, said


@pytest.mark.parametrize("extra", features.FEATURES)
def test_without_its_extra_a_feature_says_what_to_install(base, feature, extra):
    said = feature(base, extra)
    if works(said):  # what it needs is among the requirements of torch or torchmetrics
        pytest.fail(f"{extra} adds nothing")
    assert "Traceback" not in said, said
    assert install_hint(features.HINTED.get(extra, extra)) in said


@pytest.mark.parametrize("extra", features.FEATURES)
def test_with_its_extra_alone_a_feature_works(base, wheel, feature, extra, tmp_path):
    environment = Environment(tmp_path / "environment", base)
    try:
        environment.install(TORCH, f"{wheel}[{extra}]")
        assert works(said := feature(environment, extra)), said
        assert "No broken requirements" in environments.run(environment.python, "-m", "pip", "check")
    finally:
        shutil.rmtree(environment.folder)


def test_all_extras_at_once(base, wheel, tmp_path):
    environment = Environment(tmp_path / "environment", base)
    try:
        environment.install(TORCH, f"{wheel}[all]")
        told = json.loads(environments.run(environment.python, "-m", "unitrain", "doctor", "--json", cwd=tmp_path))
        missing = {one["name"] for one in told["extras"] if one["missing"]}
        assert missing <= {"testing", "lightning-monorepo"}
    finally:
        shutil.rmtree(environment.folder)


def test_uv_installs_it_too(wheel, feature, tmp_path):
    uv = [Path(sys.executable).parent / "uv", "--quiet", "--no-config"]
    folder = tmp_path / "environment"
    environments.run(*uv, "venv", "--python", sys.executable, folder)
    environment = SimpleNamespace(python=folder / "bin" / "python")
    install = [*uv, "pip", "install", "--python", environment.python, *environments.uv_options()]
    try:
        environments.run(*install, TORCH)
        environments.run(*install, TORCH, f"pytorch-unitrain[ignite] @ {wheel.as_uri()}")
        assert works(said := feature(environment, "ignite")), said
        environments.run(*uv, "pip", "check", "--python", environment.python)
    finally:
        shutil.rmtree(folder)
