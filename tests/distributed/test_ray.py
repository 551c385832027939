"""RayTrainer on a real Ray: the bits of unitrain's own processes, and errors that say what happened where."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from tests.servers import running_ray
from unitrain import BackendNotInstalledError, ConfigError, DistributedError, Event, ModelCheckpoint, SpecError
from unitrain import UnifiedTrainer as Trainer
from unitrain.distributed import ray as on_ray
from unitrain.distributed.ray import RayTrainer
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

FRAMEWORKS = ["lightning", "ignite"]
OPTIONS = {"seed": 3, "strategy": "ddp", "enable_progress_bar": False}

# Ray's own sockets, and what it says of releases to come
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def ray():
    with running_ray() as found:
        yield found


def on_cluster(framework, folder, **options):
    import ray.train

    where = ray.train.RunConfig(storage_path=str(folder / "ray"))
    return RayTrainer(framework, num_workers=2, run_config=where, **{**OPTIONS, "max_epochs": 2, **options})


def here(framework, **options):
    return Trainer(framework, devices=2, accelerator="cpu", **{**OPTIONS, "max_epochs": 2, **options})


def fitted(trainer, **arguments):
    """Return what a fit has left with its caller."""
    torch.manual_seed(11)
    made = spec("cnn", "adamw", "step")
    result = trainer.fit(made, loader(), loader(shuffle=False, samples=10), **arguments)
    assert result.step > 0
    return {
        "weights": made.model.state_dict(),
        "optimizer": [optimizer.state_dict() for optimizer in trainer.optimizers.values()],
        "metrics": result.metrics,
        "history": result.history,
        "ended": [result.epoch, result.step, result.stopped_by, result.framework],
        "state": vars(trainer.state) if hasattr(trainer.state, "__dict__") else repr(trainer.state),
    }, result


def assert_same(expected, found):
    assert differences(expected, found) == []
    for name, value in expected["weights"].items():
        assert torch.equal(value, found["weights"][name]), name


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_cluster_reaches_the_bits_of_own_processes(framework, ray, tmp_path):
    kept = ModelCheckpoint(tmp_path / "kept", monitor="val/loss")
    trainer = on_cluster(framework, tmp_path, callbacks=[kept])
    seen = tmp_path / "seen"
    trainer.on(Event.EPOCH_END, lambda run: seen.write_text(str(run.state.step)))  # a lambda travels
    found, result = fitted(trainer)
    expected, _ = fitted(here(framework, callbacks=[ModelCheckpoint(tmp_path / "own", monitor="val/loss")]))
    assert_same(expected, found)
    assert seen.read_text() == "6"
    assert result.best_checkpoint == kept.best_model_path
    assert result.best_checkpoint.is_file()
    on, _ = fitted(on_cluster(framework, tmp_path, max_epochs=4), ckpt_path=result.best_checkpoint)
    assert_same(fitted(here(framework, max_epochs=4), ckpt_path=result.best_checkpoint)[0], on)


@pytest.mark.slow
def test_evaluations_and_predictions_come_back(ray, tmp_path):
    torch.manual_seed(11)
    made, data = spec("cnn"), loader(shuffle=False, samples=10)
    trainer, own = on_cluster("ignite", tmp_path), here("ignite")
    assert trainer.test(made, data) == own.test(made, data)
    assert differences(own.predict(made, data), trainer.predict(made, data)) == []


def break_down(run):
    if run.rank == 1:
        raise ZeroDivisionError("the user's")


def die(run):
    if run.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_an_error_is_told_with_its_rank_and_its_traceback(ray, tmp_path):
    interrupt = signal.getsignal(signal.SIGINT)
    trainer = on_cluster("lightning", tmp_path)

    def fail(run):
        break_down(run)

    trainer.on(Event.BATCH_END(once=2), fail)
    with pytest.raises(DistributedError, match="rank 1 failed with ZeroDivisionError") as caught:
        fitted(trainer)
    assert "in break_down" in str(caught.value)
    assert "ZeroDivisionError: the user's" in str(caught.value)
    assert signal.getsignal(signal.SIGINT) is interrupt


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run(ray, tmp_path):
    trainer = on_cluster("ignite", tmp_path)
    trainer.on(Event.BATCH_END(once=2), die)
    with pytest.raises(DistributedError, match=r"rank 1 sent no heartbeat|could not run 2 worker"):
        fitted(trainer)


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_is_raised(ray, tmp_path):
    trainer, begun = on_cluster("ignite", tmp_path, max_epochs=100_000), tmp_path / "begun"
    trainer.on(Event.EPOCH_END, lambda run: begun.write_text(str(run.state.step)))

    def interrupt():
        while not begun.exists():
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        fitted(trainer)
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_what_a_cluster_cannot_do_is_refused_before_anything_runs(ray, tmp_path):
    trainer = RayTrainer("ignite", num_workers=3, max_epochs=1, enable_progress_bar=False)
    with pytest.raises(ConfigError, match=r"num_workers=3 need 3 CPU, but the Ray cluster has 2"):
        fitted(trainer)
    with pytest.raises(ConfigError, match=r"need 1 GPU, but the Ray cluster has 0"):
        fitted(RayTrainer("ignite", use_gpu=True, max_epochs=1))
    with pytest.raises(ConfigError, match="ScalingConfig refuses"):
        fitted(RayTrainer("ignite", scaling={"wrong": 1}, max_epochs=1))
    sender = on_cluster("ignite", tmp_path)
    lock = threading.Lock()

    def hold():
        with lock:
            pass

    sender.on(Event.FIT_END, hold)
    with pytest.raises(SpecError, match=r"(?s)must be picklable.*hold.*Hint: create objects that cannot be pickled"):
        fitted(sender)


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_workers_on_nodes_of_their_own_send_their_checkpoints(framework, tmp_path, monkeypatch):
    """Two of Ray's nodes, which share this machine's files: what is brought is taken away before it comes."""
    import ray
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        unpack = on_ray._unpack

        def without_shared_files(sent, folder):
            shutil.rmtree(tmp_path / "kept")
            unpack(sent, folder)

        monkeypatch.setattr(on_ray, "_unpack", without_shared_files)
        found, result = fitted(on_cluster(framework, tmp_path, callbacks=[ModelCheckpoint(tmp_path / "kept")]))
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert_same(fitted(here(framework, callbacks=[ModelCheckpoint(tmp_path / "own")]))[0], found)
    assert result.best_checkpoint.parent == tmp_path / "kept"
    assert torch.load(result.best_checkpoint)["global_step"] == 6


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendNotInstalledError, match=r"(?s)'ray'.*Hint: pip install 'pytorch-unitrain\[ray\]'"):
        RayTrainer("ignite")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_workers": 0}, r"num_workers must be an integer of at least 1; got 0"),
        ({"num_workers": True}, r"num_workers must be"),
        ({"devices": 2}, r"(?s)RayTrainer\(devices=2\).*Hint: num_workers="),
        ({"num_nodes": 2}, r"(?s)RayTrainer\(num_nodes=2\).*Hint: num_workers="),
        ({"accelerator": "gpu"}, r"(?s)RayTrainer\(accelerator='gpu'\).*Hint: use_gpu="),
        ({"scaling": {"use_gpu": True}}, r"(?s)scaling=.*Hint: use_gpu="),
        (
            {"run_config": SimpleNamespace(failure_config=SimpleNamespace(max_failures=2))},
            r"(?s)max_failures=2.*ckpt_path",
        ),
        ({"max_epoch": 2}, r"(?s)unknown argument 'max_epoch'.*max_epochs"),
    ],
)
def test_arguments_are_refused_with_the_way_out(options, message):
    with pytest.raises(ConfigError, match=message):
        RayTrainer("ignite", **options)


def test_workers_are_started_from_one_process(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"must run in a single process, but .* started 2"):
        RayTrainer("ignite", num_workers=2)
