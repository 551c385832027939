"""Storages and suggestions: against a real Redis server, real files, and Optuna's own old functions."""

from __future__ import annotations

import re
import warnings
from types import SimpleNamespace

import optuna
import pytest
import redis

from unitrain import BackendNotInstalledError, ConfigError
from unitrain.compat import optuna as ours
from unitrain.compat.optuna import (
    RedisStorage,
    make_storage,
    suggest,
    suggest_discrete_uniform,
    suggest_loguniform,
    suggest_uniform,
)

optuna.logging.set_verbosity(optuna.logging.WARNING)


def searched(storage, name, objective=lambda trial: trial.suggest_float("x", -1, 1) ** 2, trials=4):
    """Return the values of a study in ``storage``, which is resumed if it is there."""
    study = optuna.create_study(
        storage=storage, study_name=name, sampler=optuna.samplers.RandomSampler(seed=1), load_if_exists=True
    )
    study.optimize(objective, n_trials=trials)
    return [trial.value for trial in study.trials]


def test_a_redis_address_is_a_journal_under_a_prefix(redis_url):
    first = searched(make_storage(redis_url), "study")
    assert len(first) == 4
    again = searched(make_storage(redis_url), "study", trials=1)  # what another process would see
    assert again[:4] == first
    keys = redis.Redis.from_url(redis_url).keys()
    assert keys
    assert all(key.startswith(b"unitrain") for key in keys)


def test_two_prefixes_on_one_server_do_not_see_each_other(redis_url):
    searched(make_storage(redis_url, prefix="one"), "mine")
    assert optuna.get_all_study_names(make_storage(redis_url, prefix="one")) == ["mine"]
    assert optuna.get_all_study_names(make_storage(redis_url, prefix="two")) == []
    with pytest.raises(ConfigError, match="prefix="):
        make_storage(redis_url, prefix="")


SECRET = "p@ss/word: 100%"


@pytest.fixture
def locked_url(redis_url):
    """Yield the address of the server while it wants a password."""
    client = redis.Redis.from_url(redis_url)
    client.config_set("requirepass", SECRET)
    yield redis_url
    client.config_set("requirepass", "")


def test_the_old_call_keeps_a_study_behind_a_password_that_nobody_sees(locked_url):
    first = searched(RedisStorage(url=locked_url, password=SECRET), "locked")
    assert searched(make_storage(locked_url, password=SECRET), "locked", trials=0) == first
    assert "***" in repr(RedisStorage(locked_url, password=SECRET)._backend)
    for given in (SECRET + "x", "wrong"):
        with pytest.raises(ConfigError, match="does not answer: invalid username-password") as caught:
            RedisStorage(locked_url, password=given)
        assert given not in str(caught.value)
        assert "%40" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("redis://:one@host", {"password": "two"}, "redis://:***@host' already contains a password"),
        ("redis://host", {"password": b"two"}, "must be a string; got a bytes"),
        ("redis://host", {"heartbeat_interval": 60}, "does not take heartbeat_interval"),
        ("sqlite:///study.db", {}, "is not the address of a Redis server"),
    ],
)
def test_an_old_call_that_cannot_be_meant_is_refused(url, options, said):
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        RedisStorage(url, **options)
    assert "two" not in str(caught.value)


def test_a_file_takes_no_password():
    with pytest.raises(ConfigError, match="does not take a password"):
        make_storage("journal://study.log", password="two")


@pytest.mark.parametrize("form", ["journal://{}/study.journal", "{}/study.log"])
def test_a_file_is_a_journal(form, tmp_path):
    url = form.format(tmp_path)
    first = searched(make_storage(url), "study")
    assert searched(make_storage(url), "study", trials=0) == first
    assert [one.name for one in tmp_path.iterdir()] == [url.rpartition("/")[2]]


def test_sqlite_is_a_database(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    assert isinstance(make_storage(url), optuna.storages.RDBStorage)
    assert searched(make_storage(url), "study") == searched(make_storage(url), "study", trials=0)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_speaks_by_the_driver_of_the_extra(scheme):
    import sqlalchemy

    with pytest.raises(sqlalchemy.exc.OperationalError, match=r"psycopg\.OperationalError.*connection"):
        make_storage(f"{scheme}://user@127.0.0.1:9/studies")  # nobody listens there, and psycopg2 is not installed


@pytest.mark.parametrize("url", ["mongodb://host/db", "study.db", "", "file:///study.db"])
def test_another_address_is_refused_with_those_there_are(url):
    with pytest.raises(ConfigError, match=re.escape(f"make_storage({url!r}): unknown storage; accepted: redis://")):
        make_storage(url)


def test_without_optuna_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BackendNotInstalledError, match=r"pip install 'pytorch-unitrain\[tune\]'"):
        make_storage("study.log")


def values(objective):
    return searched(optuna.storages.InMemoryStorage(), "values", objective, trials=6)


@pytest.mark.parametrize(
    ("today", "once"),
    [
        (lambda t: suggest_uniform(t, "x", -2, 3), lambda t: t.suggest_uniform("x", -2, 3)),
        (lambda t: suggest_loguniform(t, "x", 1e-5, 1), lambda t: t.suggest_loguniform("x", 1e-5, 1)),
        (lambda t: suggest_discrete_uniform(t, "x", 0, 2, 0.5), lambda t: t.suggest_discrete_uniform("x", 0, 2, 0.5)),
    ],
    ids=["uniform", "loguniform", "discrete"],
)
def test_old_suggestions_draw_what_they_drew(today, once):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wanted = values(once)
    assert values(today) == wanted


def test_a_suggestion_is_an_int_between_ints_and_else_a_float():
    assert values(lambda t: suggest(t, "x", 1, 64, log=True)) == values(lambda t: t.suggest_int("x", 1, 64, log=True))
    assert values(lambda t: suggest(t, "x", 0, 9, step=3)) == values(lambda t: t.suggest_int("x", 0, 9, step=3))
    assert values(lambda t: suggest(t, "x", 0, 1.0)) == values(lambda t: t.suggest_float("x", 0, 1))
    assert values(lambda t: suggest(t, "x", 0, 1, step=0.5)) == values(lambda t: t.suggest_float("x", 0, 1, step=0.5))
    assert values(lambda t: suggest(t, "x", 0, 9)) != values(lambda t: suggest(t, "x", 0, 9.0))


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ((0.1, 1), {"log": True, "step": 0.1}, "log=True does not allow a step"),
        (("a", 1), {}, "takes numbers"),
        ((False, 1), {}, "takes numbers"),
    ],
)
def test_a_suggestion_that_cannot_be_meant_is_refused(given, options, said):
    with pytest.raises(ConfigError, match=said):
        suggest(None, "x", *given, **options)


def test_symlink_lock_is_found_in_its_new_place_and_in_its_old_one(monkeypatch):
    old, new = object(), object()
    for storages, expected in (
        (SimpleNamespace(JournalFileSymlinkLock=old), old),
        (SimpleNamespace(JournalFileSymlinkLock=old, journal=SimpleNamespace(JournalFileSymlinkLock=new)), new),
    ):
        monkeypatch.setattr(ours, "_optuna", lambda storages=storages: SimpleNamespace(storages=storages))
        assert ours._symlink_lock() is expected
