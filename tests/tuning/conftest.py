"""Servers and folders for studies."""

import gc
import warnings

import optuna
import pytest

from tests.servers import running_postgres, running_redis


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    with running_redis(tmp_path_factory.mktemp("redis"), "--appendonly", "yes") as server:
        yield server


@pytest.fixture(scope="session")
def postgres():
    with running_postgres() as url:
        yield url


@pytest.fixture
def storage(request, tmp_path):
    """Return an address of the kind that the test asks for."""
    kind = request.param
    if kind == "redis":
        return request.getfixturevalue("redis").url
    if kind == "postgresql":
        return request.getfixturevalue("postgres")
    return {"journal": f"journal://{tmp_path}/study.log", "sqlite": f"sqlite:///{tmp_path}/study.db"}[kind]


@pytest.fixture(autouse=True)
def _quiet(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)
    if {"storage", "postgres"} & set(request.fixturenames):  # a collection takes half a second
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the pool of a database that is not needed any more
            gc.collect()
