"""One script, however its processes are started: by unitrain, by torchrun, by SLURM's srun. The bits are the same."""

from __future__ import annotations

import socket
import sys

import pytest

from tests.distributed.launching import FRAMEWORKS, TRAIN, assert_same, finish, on_one_host, reached, start
from unitrain import ConfigError, DistributedError, UnifiedTrainer
from unitrain.distributed.world import World, first_host, world_here

BOTH = ",".join(FRAMEWORKS)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What two processes reach that torchrun starts."""
    folder = tmp_path_factory.mktemp("torchrun")
    on_one_host(folder, BOTH, 2, 1)
    return folder


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_script_needs_no_change_for_torchrun(expected, tmp_path):
    finish(start([sys.executable, TRAIN, tmp_path, BOTH, 2, 1]))
    for framework in FRAMEWORKS:
        assert_same(reached(tmp_path, framework), reached(expected, framework))


@pytest.mark.slow
def test_auto_takes_the_number_of_torchrun(expected, tmp_path):
    on_one_host(tmp_path, BOTH, "auto", 1)
    for framework in FRAMEWORKS:
        for rank in range(2):
            assert_same(reached(expected, framework, rank), reached(tmp_path, framework, rank))


def test_another_number_is_refused_on_each_rank(tmp_path):
    on_one_host(tmp_path, "ignite", 3, 1)
    for rank in range(2):
        assert reached(tmp_path, "ignite", rank).startswith(
            "ConfigError: devices=3, num_nodes=1 ask for 3 processes on 1 host(s); torchrun started 2 on 1.\n"
            'Hint: devices=2 (or "auto"), num_nodes=1.'
        )


def slurm(rank, port, **changes):
    """Return what srun sets for a task of a step of two."""
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "0",
        "SLURM_JOB_NAME": "train.sbatch",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
        "MASTER_PORT": str(port),
        **changes,
    }


@pytest.mark.parametrize("framework", ["lightning", pytest.param("ignite", marks=pytest.mark.slow)])
def test_two_tasks_of_slurm_train_together(framework, expected, tmp_path):
    port = free_port()
    command = [sys.executable, TRAIN, tmp_path, framework, 2, 1]
    finish(*(start(command, **slurm(rank, port)) for rank in range(2)))
    for rank in range(2):
        assert_same(reached(expected, framework, rank), reached(tmp_path, framework, rank))


# --- what is read from the environment --------------------------------------------------------------------------------


def place(rank, size, local_rank, local_size, address, port, launcher):
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=local_size,
        address=address,
        port=port,
        launcher=launcher,
    )


STEP = {
    "SLURM_JOB_ID": "31415",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_NAME": "train",
    "SLURM_JOB_NODELIST": "node[03-04]",
    "SLURM_NNODES": "2",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, place(3, 4, 1, 2, "node03", 16415, "SLURM")),
        ({"MASTER_ADDR": "10.0.0.9", "MASTER_PORT": "4000"}, place(3, 4, 1, 2, "10.0.0.9", 4000, "SLURM")),
        # srun --nodes=1 --ntasks=2 within an allocation of two: the step has its own numbers
        (
            {
                "SLURM_STEP_NODELIST": "node04",
                "SLURM_STEP_NUM_NODES": "1",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_PROCID": "1",
            },
            place(1, 2, 1, 2, "node04", 16415, "SLURM"),
        ),
        # an uneven step: two tasks on the first node, one on the second
        (
            {
                "SLURM_STEP_TASKS_PER_NODE": "2,1",
                "SLURM_STEP_NUM_TASKS": "3",
                "SLURM_PROCID": "2",
                "SLURM_LOCALID": "0",
            },
            place(2, 3, 0, 1, "node03", 16415, "SLURM"),
        ),
        (
            {"SLURM_STEP_TASKS_PER_NODE": "2(x2),1", "SLURM_STEP_NUM_TASKS": "5"},
            place(3, 5, 1, 2, "node03", 16415, "SLURM"),
        ),
        # salloc's shell has this name; what srun starts from there is a step
        ({"SLURM_JOB_NAME": "interactive"}, place(3, 4, 1, 2, "node03", 16415, "SLURM")),
        # a heterogeneous job: each component has its own number and list, the step's are those of all
        (
            {
                "SLURM_HET_SIZE": "2",
                "SLURM_HET_JOB_ID": "31414",
                "SLURM_JOB_NODELIST": "gpu7",
                "SLURM_JOB_NODELIST_HET_GROUP_0": "cpu[1-2]",
                "SLURM_JOB_NODELIST_HET_GROUP_1": "gpu7",
                "SLURM_STEP_NUM_TASKS": "1",
                "SLURM_STEP_NODELIST": "gpu7",
            },
            place(3, 4, 1, 2, "cpu1", 16414, "SLURM"),
        ),
        # the shell of sbatch and of salloc is no task of a step
        ({"SLURM_STEP_ID": None, "SLURM_PROCID": "0"}, None),
        ({"SLURM_STEP_ID": "batch", "SLURM_PROCID": "0"}, None),
        ({"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"}, None),
        ({"SLURM_STEP_ID": None, "SLURM_STEPID": "4294967294", "SLURM_PROCID": "0"}, None),
        # srun --pty bash
        ({"SLURM_JOB_NAME": "bash"}, None),
        ({"SLURM_PTY_PORT": "40123"}, None),
        ({"SLURM_PROCID": None}, None),
        ({"SLURM_NTASKS": "1"}, None),
        # torchrun within a job: it says more exactly who is who
        (
            {"RANK": "0", "WORLD_SIZE": "8", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4", "TORCHELASTIC_RUN_ID": "x"},
            place(0, 8, 0, 4, "127.0.0.1", 29500, "torchrun"),
        ),
    ],
)
def test_what_slurm_says(changes, expected):
    environment = {name: value for name, value in {**STEP, **changes}.items() if value is not None}
    assert world_here(environment) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID must be a number; got 'x'"),
        ({"SLURM_LOCALID": None}, "SLURM_LOCALID must be a number; got None"),
        ({"SLURM_NTASKS": "many"}, "SLURM_NTASKS must be a number; got 'many'"),
        ({"SLURM_JOB_NODELIST": ","}, r"(?s)SLURM_JOB_NODELIST=',' contains no host.*set MASTER_ADDR"),
        ({"SLURM_PROCID": "4"}, "SLURM_PROCID=4 is outside a step of 4 tasks"),
    ],
)
def test_what_slurm_cannot_mean_is_refused(changes, message):
    environment = {name: value for name, value in {**STEP, **changes}.items() if value is not None}
    with pytest.raises(DistributedError, match=message):
        world_here(environment)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("node[03-05,9]", "node03"),
        ("node[9,03-05]", "node9"),
        ("node[7]", "node7"),
        ("node[03-05]-ib,other", "node03-ib"),
        ("rack[1-2]node[001-016,20],login", "rack1node001"),
        ("gpu-a-[1-2].cluster.org", "gpu-a-1.cluster.org"),
        ("login,node[1-2]", "login"),
    ],
)
def test_the_first_host_of_a_list(hosts, first):
    assert first_host(hosts) == first


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"devices": 3}, r"devices=3, num_nodes=1 ask for 3 processes on 1 host\(s\)"),
        ({"devices": 1}, r"devices=1, num_nodes=1 ask for 1 processes on 1 host\(s\)"),
        ({"devices": 2, "num_nodes": 2}, r"devices=2, num_nodes=2 ask for 4 processes on 2 host\(s\)"),
        ({"devices": "auto", "num_nodes": 2}, r"devices='auto', num_nodes=2 ask for 4 processes on 2 host\(s\)"),
    ],
)
def test_a_trainer_refuses_another_number_than_slurm_has_started(options, asked, rank, monkeypatch):
    for name, value in slurm(rank, 15000).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigError, match=rf'(?s){asked}; SLURM started 2 on 1\..*Hint: devices=2 \(or "auto"\), num_nodes=1'
    ):
        UnifiedTrainer("ignite", accelerator="cpu", **options)
    assert UnifiedTrainer("ignite", accelerator="cpu", devices="auto").rank == rank
