"""A planted secret, wherever it lies, is in no file of a bundle."""

import gzip
import stat

import pytest

import unitrain
from unitrain.errors import DeployError

SECRET = "hunter2-AKIAIOSFODNN7EXAMPLE"
VARIABLES = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS", "HF_TOKEN", "UNITRAIN_TOKEN",
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "HTTPS_PROXY", "USER", "HOSTNAME",
)  # fmt: skip
FILES = (".env", ".git/config", ".aws/credentials", "id_rsa", "model/.env", "unitrain/.env", "secrets.json", "pip.conf")


@pytest.fixture
def planted(onnx, tmp_path, monkeypatch):
    """Return a model in a folder full of secrets, which is the home and the working directory too."""
    home = tmp_path / f"home-{SECRET}"
    for name in FILES:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(SECRET)
    (home / "digits.onnx").write_bytes(onnx.read_bytes())
    for name in VARIABLES:
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(home / "pip.conf"))
    monkeypatch.chdir(home)
    return home / "digits.onnx"


def places_of(folder):
    """Return the files that hold the secret or a path of this machine, the archive unpacked."""
    found = []
    for one in folder.rglob("*"):
        content = one.read_bytes() if one.is_file() else b""
        content = gzip.decompress(content) if one.name.endswith(".gz") else content
        if SECRET.encode() in content or SECRET in one.name or str(folder.parent).encode() in content:
            found.append(one.relative_to(folder).as_posix())
    return found


@pytest.mark.parametrize("target", ["docker", "kserve", "sagemaker", "vertex"])
def test_a_planted_secret_is_in_no_file(planted, tmp_path, target):
    made = unitrain.bundle(planted, tmp_path / "out", target=target, archive=True)
    assert not places_of(made.path)
    assert all(stat.S_IMODE(one.stat().st_mode) in (0o644, 0o755) for one in made.path.rglob("*") if one.is_file())


def test_a_bundle_in_the_folder_of_the_model_holds_nothing_of_it(planted):
    made = unitrain.bundle(planted, "out", archive=True)
    assert not places_of(made.path)
    assert not [one for one in made.path.rglob("*") if one.name in {".env", "id_rsa", "pip.conf"}]


def test_the_search_finds_a_secret(planted, tmp_path):
    made = unitrain.bundle(planted, tmp_path / "out", archive=True, data=f"rows of {SECRET}")
    assert set(places_of(made.path)) == {"MODEL_CARD.md", "model.tar.gz"}


def test_reprs_and_errors_tell_no_variable(planted, tmp_path):
    made = unitrain.bundle(planted, tmp_path / "out")
    assert SECRET not in repr(made)
    for change in ({"target": "azure"}, {"name": "A"}, {"licence": 3}):
        with pytest.raises(DeployError) as caught:
            unitrain.bundle(planted, tmp_path / "out", **change)
        assert SECRET not in str(caught.value)
