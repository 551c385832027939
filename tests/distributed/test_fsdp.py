"""A model in parts (FSDP) is trained as a whole one, in every bit, on both backends; and so are its checkpoints."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unitrain import ModelCheckpoint, UnifiedTrainer, load_weights
from unitrain.checkpoint import sharded_files as parts
from unitrain.testing import cases
from unitrain.testing.conformance import ALL
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

HERE = Path(__file__).parent


def sibling(name, path=None):
    found = importlib.util.spec_from_file_location(name, path or HERE / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def session(section, folder, processes=2, timeout=280):
    """Return what each rank found in a section of sharding.py."""
    ended = sibling("sessions").torchrun("sharding.py", section, folder, processes=processes, timeout=timeout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]


REFUSED = {
    'automatic_optimization=False is not supported with strategy="fsdp"': "a manual step hides the forward pass",
    "an optimizer with a closure (LBFGS)": "each process would decide by its own loss",
    'compile=True is not supported with strategy="fsdp"': "the model is compiled as a whole",
    "every process should read all of it or only its share": "data without samplers: ShardedBatches or OwnBatches says which",
    "save_on_exception": "needs the state of a process that failed",
    'does not support strategy="fsdp": a sharded parameter can only be frozen as a whole': "Freeze and Unfreeze: of parameters one by one",
    'StochasticWeightAveraging does not support strategy="fsdp"': "the model is in parts",
    "val_check_interval=4 is more than the 3": "an epoch of two processes has half as many batches",
}
"""What may be refused among the cases of the suite, and why; anything else must be equal."""


def assert_equal(found, least):
    for cells in found:
        refused = {cell: answer for cell, answer in cells.items() if isinstance(answer, str)}
        differing = {cell: answer for cell, answer in cells.items() if answer and cell not in refused}
        assert not differing, differing
        assert not [answer for answer in refused.values() if not any(reason in answer for reason in REFUSED)]
        assert len(cells) - len(refused) >= least, f"only {len(cells) - len(refused)} cells were compared"


@pytest.mark.timeout(400)
def test_parts_are_trained_as_by_hand_and_as_a_whole_model_is(tmp_path):
    assert_equal(session("quick", tmp_path, timeout=380), 60)


EXPECTED = {
    "manual": "automatic_optimization=False is not supported",
    "after a look at the rates": "Invalid learning rate",
    "made already": "an optimizer instance",
    "compile": "compile=True is not supported",
    "batch norm": "sync_batchnorm=True",
    "closure": "an optimizer with a closure",
    "reference": "strategy='fsdp' is not supported by 'reference' (sharded parameters (FSDP))",
    "unknown option": "unknown argument 'reshard'",
    "bad option": "accepted are None, True and False",
    "refused by torch": "Invalid shard_placement_fn result",
    "options of another": "native={'ddp': ...} has no effect: strategy='fsdp'",
    "wrap": "FSDP(wrap=(LSTM,)): Sequential contains no such module",
    "scalar": "'temperature' is a scalar",
}


@pytest.mark.slow
def test_what_cannot_be_in_parts_is_refused_and_the_model_left_alone(tmp_path):
    for cells in session("refusals", tmp_path):
        assert cells.keys() == EXPECTED.keys()
        for name, answer in cells.items():
            assert isinstance(answer, str), (name, answer)
            assert EXPECTED[name] in answer


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_case_of_the_suite(tmp_path):
    assert_equal(session("everything", tmp_path, timeout=1700), len(ALL) + 100)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_grid_of_checkpoints(tmp_path):
    assert_equal(session("all checkpoints", tmp_path, timeout=850), 90)


# --- other numbers of processes, and no torchrun ----------------------------------------------------------------------

BY_ITSELF = """
import sys
from functools import partial

import torch

from unitrain import ModelCheckpoint, UnifiedTrainer
from unitrain.distributed.options import FSDP
from unitrain.testing import cases
from unitrain.testing.models import loader

if __name__ == "__main__":
    framework, folder = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = cases.spec("transformer", "adamw", "step")
    keeper = ModelCheckpoint(folder + "/kept", "{epoch}", sharded=True)
    trainer = UnifiedTrainer(framework, devices=2, strategy=FSDP(), accelerator="cpu", max_epochs=2, seed=0,
                             callbacks=[keeper], enable_progress_bar=False)
    result = trainer.fit(spec, loader(), loader(shuffle=False, samples=9))
    assert not any(hasattr(one, "to_local") for one in spec.model.parameters())
    torch.save({"weights": spec.model.state_dict(), "history": result.history,
                "optimizer": trainer.optimizers["optimizer"].state_dict(),
                "kept": str(keeper.best_model_path)}, folder + f"/{framework}.pt")
"""


def by_itself(framework, folder):
    """Return what a script reaches that starts its processes by itself."""
    script = folder / "script.py"
    script.write_text(BY_ITSELF)
    command = [sys.executable, "-W", "ignore", script, framework, folder]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return torch.load(folder / f"{framework}.pt", weights_only=True)


@pytest.mark.slow
def test_both_backends_start_processes_that_reach_the_same(tmp_path):
    found = []
    for framework in ("lightning", "ignite"):
        folder = tmp_path / framework
        folder.mkdir()
        reached = by_itself(framework, folder)
        found.append({**reached, "kept": str(Path(reached["kept"]).relative_to(folder))})
    assert not differences(*found)


@pytest.mark.slow  # the quick tier starts DDP's processes from a script, and FSDP's from a launcher
def test_processes_that_a_script_starts_bring_back_the_whole_and_one_process_goes_on(tmp_path):
    reached = by_itself("ignite", tmp_path)
    kept = Path(reached["kept"])
    assert not differences(dict(reached["weights"]), load_weights(kept))
    parts.consolidate(kept, tmp_path / "one.ckpt")
    assert not differences(parts.read(kept), parts.read_any(tmp_path / "one.ckpt"))
    ends = []
    for framework, path in (("lightning", kept), ("reference", tmp_path / "one.ckpt")):
        made = cases.spec("transformer", "adamw", "step")
        keeper = ModelCheckpoint(tmp_path / "kept", "{epoch}", sharded=True)
        options = {"seed": 0, "enable_progress_bar": False, "callbacks": [keeper]}
        trainer = UnifiedTrainer(framework, max_epochs=3, **options)
        result = trainer.fit(made, loader(), loader(shuffle=False, samples=9), ckpt_path=path)
        ends.append([dict(made.model.state_dict()), result.history])
    assert not differences(*ends)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_processes_go_on_with_what_two_have_written(tmp_path):
    for section, processes in (("two", 2), ("four", 4)):
        assert_equal(session(section, tmp_path, processes=processes, timeout=290), 1 if section == "two" else 8)
