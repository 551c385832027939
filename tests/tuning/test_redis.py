"""Our journal in Redis: what it refuses, what it notices, and that Optuna's own reads it."""

import pickle
import time
import warnings

import optuna
import pytest

from tests.servers import running_redis
from tests.tuning.studies import rows, study
from unitrain import ConfigError
from unitrain.compat.optuna_redis import Patience, RedisJournal, redacted
from unitrain.tuning.storage.address import Address
from unitrain.tuning.storage.at_once import add_trials


@pytest.fixture
def server(tmp_path):
    with running_redis(tmp_path, "--appendonly", "yes") as found:
        yield found


def written(journal, count):
    for number in range(count):
        journal.append_logs([{"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"n": number}}])


def test_optunas_own_backend_reads_what_ours_wrote_and_the_other_way_round(redis):
    ours = optuna.storages.JournalStorage(RedisJournal(redis.url, "both"))
    optuna.create_study(study_name="s", storage=ours).add_trial(optuna.trial.create_trial(value=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = optuna.storages.JournalStorage(optuna.storages.journal.JournalRedisBackend(redis.url, prefix="both"))
    optuna.load_study(study_name="s", storage=theirs).add_trial(optuna.trial.create_trial(value=2.0))
    assert [one.value for one in optuna.load_study(study_name="s", storage=ours).trials] == [1.0, 2.0]


def test_a_server_that_went_back_is_noticed_before_anything_is_written(server):
    import redis

    client = redis.Redis.from_url(server.url)
    journal = RedisJournal(server.url, "back")
    written(journal, 5)
    assert len(list(journal.read_logs(0))) == 5
    for number in (3, 4):
        client.delete(f"back:log:{number}")
    client.set("back:log_number", 2)
    with pytest.raises(ConfigError, match="went back to an older state"):
        written(journal, 1)
    with pytest.raises(ConfigError, match="went back to an older state"):
        list(journal.read_logs(5))
    assert client.get("back:log_number") == b"2"
    written(RedisJournal(server.url, "back"), 3)  # others went on from there: as many records as before, but other ones
    with pytest.raises(ConfigError, match="went back"):
        written(journal, 1)
    assert client.get("back:log_number") == b"5"


def test_without_that_check_results_are_lost_in_silence(server, monkeypatch):
    import redis

    client = redis.Redis.from_url(server.url)
    monkeypatch.setattr("unitrain.compat.optuna_redis._GONE", object())
    journal = RedisJournal(server.url, "lost")
    written(journal, 5)
    list(journal.read_logs(0))
    client.set("lost:log_number", 2)
    written(journal, 1)
    assert client.get("lost:log_number") == b"2", "the record was dropped, and nobody was told"


def test_a_study_whose_server_lost_trials_ends_with_an_error(tmp_path):
    folder = tmp_path / "forgetful"
    folder.mkdir()
    with running_redis(folder) as server:
        with pytest.warns(UserWarning, match="no append-only file"):
            result = study(n_trials=2, storage=server.url, study_name="s", framework="reference")
        server.kill()
        server.start()
        with pytest.raises(ConfigError, match="went back to an older state"):
            _ = result.trials


def test_a_result_whose_server_is_away_says_so_within_seconds(tmp_path):
    folder = tmp_path / "away"
    folder.mkdir()
    with running_redis(folder, "--appendonly", "yes") as server:
        result = study(n_trials=1, storage=server.url, study_name="s", framework="reference")
        server.kill()
        began = time.monotonic()
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1:\d+/0 does not answer: [\s\S]*is the server running"):
            _ = result.trials
        assert time.monotonic() - began < 10
        server.start()
        assert len(result.trials) == 1


def test_tries_to_connect_within_tries_of_a_command_take_no_longer():
    patience, tries = Patience(0.3, (OSError,)), []

    def refused():
        tries.append(1)
        raise ConnectionRefusedError

    def asked():
        return patience.call_with_retry(refused, lambda _: None)

    began = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        patience.call_with_retry(asked, lambda *_: None, with_failure_count=True)
    assert time.monotonic() - began < 1
    assert len(tries) > 2
    with pytest.raises(ConnectionRefusedError):
        asked()
    assert time.monotonic() - began < 1, "after that, a server that is still away is not waited for again"


def test_new_trials_are_added_in_one_request(server, monkeypatch):
    appended = []
    original = RedisJournal.append_logs
    monkeypatch.setattr(
        RedisJournal, "append_logs", lambda self, logs: appended.append(len(logs)) or original(self, logs)
    )
    storage = optuna.storages.JournalStorage(RedisJournal(server.url, "filled"))
    made = optuna.create_study(study_name="s", storage=storage)
    waiting = optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING)
    add_trials(made, [waiting] * 50)
    assert appended == [1, 1, 49]
    assert [one.number for one in made.trials] == list(range(50))
    assert made.ask().number == 0, "the storage reads and writes as before"
    assert {one.state.name for one in made.trials[1:]} == {"WAITING"}


def test_a_lost_answer_appends_nothing_twice(server):
    journal = RedisJournal(server.url, "again")
    written(journal, 1)
    journal._appended -= 1  # as after a broken connection: the same request again
    written(journal, 1)
    assert len(list(journal.read_logs(0))) == 1


def test_a_server_that_evicts_is_refused(tmp_path):
    with (
        running_redis(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru") as server,
        pytest.raises(ConfigError, match=r"evicts records .*allkeys-lru"),
    ):
        study(storage=server.url, study_name="s")


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret-word@127.0.0.1:9/0",
        "rediss://me:secret-word@127.0.0.1:9/0",
        "redis://:a/secret#word@127.0.0.1:9/0",
        "redis://127.0.0.1:9/0?password=secret-word",
    ],
)
def test_a_password_is_never_shown(url):
    address = Address.of(url)
    assert "secret" not in repr(address) + str(address) + redacted(url)
    assert b"secret" not in pickle.dumps(address)
    assert pickle.loads(pickle.dumps(address)).url == url
    with pytest.raises(ConfigError, match=r"does not answer") as caught:
        study(storage=url, study_name="s")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_is_not_in_the_result(postgres, tmp_path):
    result = study(n_trials=1, storage=postgres, study_name=f"p-{tmp_path.name}", framework="reference")
    assert "secret" not in repr(result) + str(result) + repr(result.plan) + str(result.plan.address)
    assert len(rows(result)) == 1


def test_an_unknown_database_is_refused_without_its_password():
    with pytest.raises(ConfigError) as caught:
        study(storage="mysql://me:secret-word@host/db", study_name="s")
    assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="does not answer") as caught:
        study(storage="postgresql://me:secret-word@127.0.0.1:9/db", study_name="s")
    assert "secret" not in str(caught.value)


def test_many_records_are_read_in_few_requests(server, monkeypatch):
    journal = RedisJournal(server.url, "many")
    journal.append_logs([{"op_code": 2, "worker_id": "w", "study_id": 0, "user_attr": {"n": n}} for n in range(2500)])
    asked = []
    original = journal._client.execute_command
    monkeypatch.setattr(
        journal._client, "execute_command", lambda *given, **more: asked.append(1) or original(*given, **more)
    )
    assert [one["user_attr"]["n"] for one in journal.read_logs(0)] == list(range(2500))
    assert len(asked) == 1 + 2, "the append has returned the first thousand"
    asked.clear()
    assert len(list(RedisJournal(server.url, "many").read_logs(0))) == 2500
