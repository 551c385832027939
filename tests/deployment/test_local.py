"""The life of a deployment on this machine, with real processes: start, update under load, failure, kill, stop."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from torch import nn

import unitrain
from tests.serving.load import Load
from unitrain.deployment.providers.local.files import Files
from unitrain.deployment.providers.local.locks import end, holder, is_held, locked
from unitrain.deployment.providers.local.service import recorded
from unitrain.errors import DataError, DeployError

ROW = [0.5, 1.0, -1.0, 2.0]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Return two bundles of models that answer differently."""
    folder, made = tmp_path_factory.mktemp("local"), []
    for seed in range(2):
        torch.manual_seed(seed)
        unitrain.export_module(nn.Linear(4, 3), folder / "net.onnx", example_input=torch.randn(8, 4))
        made.append(unitrain.bundle(folder / "net.onnx", folder / f"out-{seed}"))
    return made


@pytest.fixture
def broken(bundles, tmp_path):
    """Return a bundle whose entry point ends: its manifest is right, its model is not one."""
    folder = tmp_path / "broken"
    shutil.copytree(bundles[0].path, folder)
    (folder / "model" / "model.onnx").write_bytes(b"no model")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    from unitrain.deployment.bundle.manifest import text_of
    from unitrain.deployment.bundle.verify import sha256_of

    digest = sha256_of(folder / "model" / "model.onnx")
    manifest["files"]["model/model.onnx"] = {"sha256": digest, "size": 8}
    manifest["model"]["sha256"] = digest
    (folder / "manifest.json").write_bytes(text_of(manifest))
    return folder


@pytest.fixture
def local(tmp_path):
    """Return what deploys below a folder of the test, and ends everything with it."""
    root = tmp_path / "deployments"

    def deploy(bundle, name="digits", **options):
        return unitrain.deploy(bundle, provider="local", name=name, folder=root, progress=False, **options)

    deploy.root = root
    yield deploy
    for one in root.iterdir() if root.exists() else ():
        pids = [holder(one / "supervisor.lock"), *recorded(Files(one))]
        for pid in filter(None, pids):
            end(pid, one, signal.SIGKILL)


def verbs(made):
    return [step.verb.value for step in made.plan.steps]


def expected(bundle, rows):
    return unitrain.InferenceEngine(bundle.model_file).predict(rows)


def tree(folder):
    """Return every file and what it holds, but what says when and who."""
    changing = {"state.json", "service.log", "wanted.json", "supervisor.lock", "service.lock", "change.lock"}
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name not in changing
    }


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_whole_life_under_load_without_a_failed_request(bundles, local):
    made = local(bundles[0])
    assert verbs(made) == ["create", "create"]
    assert made.status().state == "InService"
    url = made.url.removesuffix("/predict")
    with Load(url, clients=4) as load:
        for turn in (1, 0, 1):
            now = local(bundles[turn])
            assert verbs(now) == ["create", "update", "wait for", "delete"]
            assert now.url == made.url
            assert now.predict([ROW]) == expected(bundles[turn], [ROW])
        load.end()
    assert load.lost == []
    assert load.refused == 0
    assert {status for status, _ in load.answers} == {200}
    assert len({body for _, body in load.answers}) == 2  # both models answered
    now.undeploy()
    assert now.status().state == "absent"
    assert not (local.root / "digits").exists()
    now.undeploy()


def test_the_same_again_does_nothing(bundles, local):
    made = local(bundles[0])
    pid, before = made.status().details["pid"], tree(local.root)
    again = local(bundles[0])
    assert verbs(again) == ["keep", "keep"]
    assert not again.plan.changes
    assert again.status().details["pid"] == pid
    assert tree(local.root) == before


def test_a_dry_run_only_reads(bundles, local):
    made = local(bundles[0], dry_run=True)
    assert verbs(made) == ["create", "create"]
    assert "create  service" in str(made)
    assert not local.root.exists()
    local(bundles[0])
    before = {path: path.stat().st_mtime_ns for path in local.root.rglob("*") if path.is_file()}
    assert verbs(local(bundles[1], dry_run=True)) == ["create", "update", "wait for", "delete"]
    assert {path: path.stat().st_mtime_ns for path in local.root.rglob("*") if path.is_file()} == before


def test_what_fails_leaves_nothing(broken, local):
    with pytest.raises(
        DeployError, match=r"step 2 of 2, create service digits: the service did not start: .*model"
    ) as told:
        local(broken)
    assert "Taken back: service digits, copy of the bundle" in str(told.value)
    assert "It remains" not in str(told.value)
    assert not (local.root / "digits").exists()


def test_an_update_that_fails_leaves_the_old_service(bundles, broken, local):
    made = local(bundles[0])
    pid, before = made.status().details["pid"], tree(local.root)
    with Load(made.url.removesuffix("/predict"), clients=2) as load:
        with pytest.raises(DeployError, match="update service digits"):
            local(broken)
        load.end()
    assert load.lost == []
    assert {status for status, _ in load.answers} == {200}
    assert made.status().details["pid"] == pid
    assert tree(local.root) == before
    assert verbs(local(bundles[0])) == ["keep", "keep"]


def test_a_killed_service_is_started_again(bundles, local):
    made = local(bundles[0])
    pid = int(made.status().details["pid"])
    os.kill(pid, signal.SIGKILL)
    until(lambda: made.status().state == "InService" and made.status().details["pid"] != str(pid))
    assert made.predict([ROW]) == expected(bundles[0], [ROW])


def test_a_killed_supervisor_is_replaced(bundles, local):
    made = local(bundles[0])
    url = made.url
    os.kill(holder(local.root / "digits" / "supervisor.lock"), signal.SIGKILL)
    until(lambda: made.status().state == "Orphaned")
    assert made.predict([ROW]) == expected(bundles[0], [ROW])  # the service lives on
    again = local(bundles[0])
    assert verbs(again) == ["keep", "create"]
    assert again.predict([ROW]) == expected(bundles[0], [ROW])
    assert again.url == url
    os.kill(holder(local.root / "digits" / "supervisor.lock"), signal.SIGKILL)
    until(lambda: again.status().state == "Orphaned")
    again.undeploy()
    assert again.status().state == "absent"


def test_it_outlives_the_script_that_started_it(bundles, local):
    script = (
        "import sys, unitrain\n"
        "if __name__ == '__main__':\n"
        "    unitrain.deploy(sys.argv[1], provider='local', name='digits', folder=sys.argv[2])\n"
    )
    command = [sys.executable, "-c", script, str(bundles[0].path), str(local.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "create service digits" in done.stderr
    found = local(bundles[0])
    assert verbs(found) == ["keep", "keep"]
    assert found.predict([ROW]) == expected(bundles[0], [ROW])


def test_two_deploys_at_once(bundles, local):
    local(bundles[0])
    outcomes = []

    def update():
        try:
            outcomes.append(local(bundles[1]))
        except DeployError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=update) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert len(outcomes) == 2
    assert any(not isinstance(one, DeployError) for one in outcomes)
    for one in outcomes:
        assert not isinstance(one, DeployError) or "another deploy of 'digits'" in str(one)
    final = local(bundles[1])
    assert verbs(final) == ["keep", "keep"]
    assert final.predict([ROW]) == expected(bundles[1], [ROW])


def test_a_first_deploy_that_comes_second_leaves_the_winner_alone(bundles, local):
    loser = local(bundles[1], dry_run=True)
    winner = local(bundles[0])
    with pytest.raises(DeployError, match="another deploy of 'digits' is running"):
        loser.wait()
    assert winner.status().state == "InService"
    assert winner.predict([ROW]) == expected(bundles[0], [ROW])
    assert [path.name for path in (local.root / "digits" / "versions").iterdir()] == [
        winner.status().details["version"]
    ]


def test_nothing_can_be_started_while_it_is_removed(bundles, local):
    from unitrain.deployment.providers.local.control import remove

    made = local(bundles[0])
    with pytest.raises(DeployError, match="'digits' has been started again"):
        remove(Files(local.root / "digits"))
    assert made.predict([ROW]) == expected(bundles[0], [ROW])
    made.undeploy()
    other = local(bundles[0], dry_run=True)
    first = local(bundles[1])
    first.undeploy()
    assert other.wait().predict([ROW]) == expected(bundles[0], [ROW])  # its folder was removed in between


def test_a_supervisor_that_is_killed_while_a_service_starts_leaves_nothing_that_cannot_be_stopped(bundles, local):
    made = local(bundles[0], wait=False)
    files = Files(local.root / "digits")
    until(lambda: recorded(files))
    os.kill(holder(files.supervising), signal.SIGKILL)
    until(lambda: not is_held(files.supervising))
    assert is_held(files.serving)
    assert not made.status().is_ready
    assert local(bundles[0]).predict([ROW]) == expected(bundles[0], [ROW])


def test_a_failed_deploy_over_an_orphan_starts_what_ran_before(bundles, broken, local):
    made = local(bundles[0])
    os.kill(holder(local.root / "digits" / "supervisor.lock"), signal.SIGKILL)
    until(lambda: made.status().state == "Orphaned")
    with pytest.raises(DeployError, match="create service digits"):
        local(broken)
    assert made.status().state == "InService"
    assert made.predict([ROW]) == expected(bundles[0], [ROW])


def test_a_removed_folder_ends_its_processes(bundles, local):
    made = local(bundles[0])
    pids = [holder(local.root / "digits" / "supervisor.lock"), int(made.status().details["pid"])]
    shutil.rmtree(local.root / "digits")
    until(lambda: not any(alive(pid) for pid in pids))
    assert not (local.root / "digits").exists()


def test_looking_does_not_disturb(tmp_path):
    lock, looked = tmp_path / "a.lock", []
    lock.touch()
    end_ = threading.Event()

    def look():
        while not end_.is_set():
            looked.append(is_held(lock))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for one in threads:
        one.start()
    time.sleep(0.3)
    assert not any(looked)
    handle = locked(lock)  # waits for a moment without a look
    end_.set()
    for one in threads:
        one.join()
    assert is_held(lock)
    os.close(handle)
    assert not is_held(lock)


def test_an_update_with_another_token_is_refused(bundles, local, monkeypatch):
    local(bundles[0])
    monkeypatch.setenv("UNITRAIN_TOKEN", "another-secret")
    for bundle in bundles:
        with pytest.raises(DeployError, match="UNITRAIN_TOKEN is not the one that 'digits' was started with"):
            local(bundle)


def test_a_proxy_of_the_environment_sees_nothing(bundles, local, monkeypatch):
    made = local(bundles[0])
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    assert made.predict([ROW]) == expected(bundles[0], [ROW])


def test_numbers_that_json_cannot_tell_are_refused(bundles, local):
    with pytest.raises(DataError, match="JSON has no NaN and no infinity"):
        local(bundles[0]).predict([[float("nan"), 0.0, 0.0, 0.0]])


def test_an_open_address_without_a_token_warns(bundles, local):
    with pytest.warns(UserWarning, match=r"host='0\.0\.0\.0' lets other machines connect") as caught:
        local(bundles[0], host="0.0.0.0", dry_run=True)
    assert {one.filename for one in caught} == {__file__}  # the user's line, however deep the call is


def test_ctrl_c_takes_nothing_back_and_tells_how_to_go_on(bundles, local):
    command = [sys.executable, "-m", "unitrain", "deploy", str(bundles[0].path), "--provider", "local"]
    command += ["--name", "digits", "--folder", str(local.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "is Starting" in line:
                process.send_signal(signal.SIGINT)
                break
        told = process.stderr.read()
    assert process.returncode == 130
    assert "nothing is taken back" in told
    assert f"unitrain undeploy digits --provider local --folder {local.root}" in told
    assert "Traceback" not in told
    assert verbs(local(bundles[0]))[0] == "keep"


def test_without_waiting_the_rest_comes_later(bundles, local):
    made = local(bundles[0], wait=False)
    assert not made.is_complete
    assert made.wait() is made
    assert made.is_complete
    assert made.predict([ROW]) == expected(bundles[0], [ROW])


@pytest.mark.parametrize("kind", ["list", "array", "tensor"])
def test_predictions_have_the_kind_of_the_inputs(bundles, local, kind):
    made = local(bundles[0])
    rows = {"list": [ROW, ROW], "array": np.array([ROW, ROW], np.float32), "tensor": torch.tensor([ROW, ROW])}[kind]
    found = made.predict(rows)
    assert type(found) is type(rows)
    assert np.array_equal(np.asarray(found, np.float32), np.asarray(expected(bundles[0], rows), np.float32))
    assert type(made.predict(rows[0])) is type(rows)
    with pytest.raises(DataError):
        made.predict([[1.0, 2.0]])


def test_many_rows_are_several_requests(bundles, local):
    rows = torch.randn(150, 4)
    found = local(bundles[0]).predict(rows)
    assert found.shape == (150, 3)
    assert torch.equal(found[:64], expected(bundles[0], rows[:64]))
    assert torch.equal(found[128:], expected(bundles[0], rows[128:]))


def test_a_port_can_be_chosen_and_changed(bundles, local):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeployError, match=f"cannot listen on 127.0.0.1:{port}"):
            local(bundles[0], port=port)
        assert not (local.root / "digits").exists()
        made = local(bundles[0])
        with pytest.raises(DeployError, match=f"cannot listen on 127.0.0.1:{port}"):
            local(bundles[0], port=port)
        assert made.predict([ROW]) == expected(bundles[0], [ROW])
    moved = local(bundles[0], port=port)
    assert moved.url == f"http://127.0.0.1:{port}/predict"
    assert moved.predict([ROW]) == expected(bundles[0], [ROW])


def test_a_token_of_the_environment_protects_it(bundles, local, monkeypatch):
    monkeypatch.setenv("UNITRAIN_TOKEN", "secret-of-this-test")
    made = local(bundles[0])
    assert made.predict([ROW]) == expected(bundles[0], [ROW])
    monkeypatch.delenv("UNITRAIN_TOKEN")
    with pytest.raises(DeployError, match="401"):
        made.predict([ROW])
    for path in local.root.rglob("*"):
        assert not path.is_file() or b"secret-of-this-test" not in path.read_bytes()


def test_a_changed_file_is_refused_before_anything_is_done(bundles, local, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundles[0].path, copy)
    (copy / "model" / "model.onnx").write_bytes(b"x")
    with pytest.raises(DeployError, match="was changed"):
        local(copy)
    assert not local.root.exists()


def test_files_of_others_are_kept(bundles, local):
    stranger = local.root / "digits"
    stranger.mkdir(parents=True)
    (stranger / "thesis.txt").write_text("mine")
    for call in (lambda: local(bundles[0]), lambda: unitrain.undeploy("digits", provider="local", folder=local.root)):
        with pytest.raises(DeployError, match="is not a deployment of unitrain"):
            call()
    assert [path.name for path in stranger.iterdir()] == ["thesis.txt"]
    made = local(bundles[0], name="other")
    (local.root / "other" / "notes.txt").write_text("mine")
    with pytest.warns(UserWarning, match=r"unitrain did not write notes\.txt"):
        made.undeploy()
    assert (local.root / "other" / "notes.txt").read_text() == "mine"


def test_the_command_line(bundles, local):
    def unitrain_(*arguments, status=0):
        command = [sys.executable, "-m", "unitrain", *map(str, arguments), "--provider", "local"]
        done = subprocess.run([*command, "--folder", str(local.root)], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    assert "absent" in unitrain_("status", "digits", status=3)
    assert "create" in unitrain_("deploy", bundles[0].path, "--name", "digits", "--dry-run")
    told = json.loads(unitrain_("deploy", bundles[0].path, "--name", "digits", "--json"))
    assert [one["action"] for one in told["plan"]] == ["create", "create"]
    assert json.loads(unitrain_("status", "digits", "--json"))["ready"] is True
    assert unitrain_("deploy", bundles[0].path, "--name", "digits").strip() == told["url"]
    assert "delete  service" in unitrain_("undeploy", "digits", "--dry-run")
    assert "delete  service" in unitrain_("undeploy", "digits")
    assert "nothing is there" in unitrain_("undeploy", "digits")
    unitrain_("deploy", bundles[0].path, "--name", "../up", status=1)
