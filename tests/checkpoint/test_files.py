"""A checkpoint file is whole or not there, never runs code, and says what is wrong with it."""

from __future__ import annotations

import os
import pickle
import resource
from enum import Enum
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

import unitrain
from unitrain import Callback, CheckpointError, ConfigError, Event, UnifiedTrainer
from unitrain.checkpoint import io
from unitrain.checkpoint.gate import plain
from unitrain.checkpoint.layout import KEY
from unitrain.testing.cases import spec
from unitrain.testing.models import loader
from unitrain.testing.trace import differences

FRAMEWORKS = ["reference", "lightning", "ignite"]


def trainer(framework="ignite", **options):
    return UnifiedTrainer(framework, **{"max_epochs": 2, "seed": 0, "enable_progress_bar": False, **options})


@pytest.fixture
def saved(tmp_path):
    made = trainer()
    made.fit(spec(), loader(), loader())
    made.save_checkpoint(tmp_path / "run.ckpt")
    return tmp_path / "run.ckpt"


def go_on(path, made_spec=None, framework="ignite"):
    return trainer(framework, max_epochs=3).fit(made_spec or spec(), loader(), loader(), ckpt_path=path)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_finished_run_goes_on_with_more_epochs(framework, saved):
    whole = trainer(framework, max_epochs=3)
    expected, made = whole.fit(spec_a := seeded_spec(), loader(), loader()), seeded_spec()
    half = trainer(framework)
    half.fit(made, loader(), loader())
    half.save_checkpoint(saved)
    other = spec()
    result = go_on(saved, other, framework)
    assert result.history == expected.history
    assert not differences(dict(spec_a.model.state_dict()), dict(other.model.state_dict()))


def seeded_spec():
    torch.manual_seed(5)
    return spec()


def test_a_truncated_file_names_the_newest_good_one(saved):
    good = saved.with_name("older.ckpt")
    good.write_bytes(saved.read_bytes())
    os.truncate(saved, saved.stat().st_size // 2)
    with pytest.raises(CheckpointError, match=r"damaged[\s\S]*older\.ckpt[\s\S]*Hint: "):
        go_on(saved)
    go_on(good)


def test_a_flipped_bit_is_found(saved):
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        go_on(saved)


class Dangerous:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_malicious_file_does_not_execute(saved, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {**io.read(saved), "extra": Dangerous()}
    if form == "torch":
        torch.save(content, saved)
    else:
        saved.write_bytes(pickle.dumps(content))
    for load in (go_on, unitrain.load_weights):
        with pytest.raises(CheckpointError, match="Hint: "):
            load(saved)
    assert not (tmp_path / "touched").exists()
    pickle.loads(pickle.dumps(Dangerous()))  # the trap works
    assert (tmp_path / "touched").exists()


def test_an_instantiator_is_refused(saved):
    io.write(saved, {**io.read(saved), "hyper_parameters": {"_instantiator": "os.system"}})
    with pytest.raises(CheckpointError, match="_instantiator"):
        go_on(saved)


def test_a_newer_format_is_refused(saved):
    content = io.read(saved)
    content[KEY]["format"] = 99
    io.write(saved, content)
    with pytest.raises(CheckpointError, match=r"format 99[\s\S]*Hint: pip install --upgrade pytorch-unitrain"):
        go_on(saved)


def test_another_model_is_refused_with_what_differs(saved):
    with pytest.raises(CheckpointError, match=r"does not match Sequential[\s\S]*Hint: "):
        go_on(saved, spec("cnn"))


def test_another_optimizer_is_refused(saved):
    with pytest.raises(CheckpointError, match="Adam"):
        go_on(saved, spec("mlp", "groups"))


def test_a_file_of_plain_lightning_is_refused_by_name(saved):
    content = io.read(saved)
    del content[KEY]
    io.write(saved, content)
    with pytest.raises(CheckpointError, match=r"not written by unitrain[\s\S]*load_weights"):
        go_on(saved)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        go_on(tmp_path / "nothing.ckpt")


def test_fewer_epochs_than_a_file_has_are_refused(saved):
    with pytest.raises(ConfigError, match="has already run 2 epochs"):
        trainer(max_epochs=1).fit(spec(), loader(), ckpt_path=saved)


def test_a_full_disk_leaves_the_older_file(saved):
    before = saved.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    made = trainer()
    made.fit(spec(), loader())
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 3, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"could not be written[\s\S]*unchanged"):
            made.save_checkpoint(saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "taken").write_text("")
    made = trainer()
    made.fit(spec(), loader())
    with pytest.raises(CheckpointError, match="could not be written"):
        made.save_checkpoint(tmp_path / "taken" / "run.ckpt")


def test_a_read_only_folder_is_an_error(saved, monkeypatch):
    """Root may write anywhere, so the system call says what it would say to another user."""
    before = saved.read_bytes()

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    made = trainer()
    made.fit(spec(), loader())
    monkeypatch.setattr("unitrain.utilities.files._new_part", refuse)
    with pytest.raises(CheckpointError, match=r"Permission denied[\s\S]*unchanged[\s\S]*Hint: "):
        made.save_checkpoint(saved)
    assert saved.read_bytes() == before


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_weights_can_be_taken_without_a_framework(framework, tmp_path):
    made, made_spec = trainer(framework), spec()
    made.fit(made_spec, loader())
    made.save_checkpoint(tmp_path / "run.ckpt")
    assert not differences(unitrain.load_weights(tmp_path / "run.ckpt"), dict(made_spec.model.state_dict()))
    other = spec()
    expected = trainer(framework).validate(made_spec, loader())
    assert trainer(framework).validate(other, loader(), ckpt_path=tmp_path / "run.ckpt") == expected


class Colour(Enum):
    RED = 3


def test_states_become_plain_and_come_back(tmp_path):
    class Keeper(Callback):
        state: ClassVar = {
            "path": Path("a/b"),
            "array": np.arange(3),
            "scalar": np.float32(0.5),
            "set": {2, 1},
        }

        def state_dict(self):
            return self.state

        def load_state_dict(self, state):
            self.loaded = state

    made = trainer(callbacks=[Keeper()])
    made.fit(spec(), loader())
    made.save_checkpoint(tmp_path / "run.ckpt")
    keeper = Keeper()
    trainer(max_epochs=3, callbacks=[keeper]).fit(spec(), loader(), ckpt_path=tmp_path / "run.ckpt")
    array, scalar = keeper.loaded.pop("array"), keeper.loaded.pop("scalar")
    assert keeper.loaded == {"path": Path("a/b"), "set": {1, 2}}
    assert array.dtype == np.arange(3).dtype
    assert array.tolist() == [0, 1, 2]
    assert type(scalar) is np.float32
    assert scalar == np.float32(0.5)


def test_a_state_that_no_safe_file_carries_is_refused():
    with pytest.raises(CheckpointError, match=r"state\['colour'\] is a .*Colour"):
        plain({"colour": Colour.RED}, "state")


def test_states_of_callbacks_that_are_gone_are_told(tmp_path):
    class Keeper(Callback):
        def state_dict(self):
            return {"kept": 1}

    made = trainer(callbacks=[Keeper()])
    made.fit(spec(), loader())
    made.save_checkpoint(tmp_path / "run.ckpt")
    with pytest.warns(UserWarning, match="Keeper"):
        trainer(max_epochs=3).fit(spec(), loader(), ckpt_path=tmp_path / "run.ckpt")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(framework, tmp_path):
    expected = trainer(framework, max_epochs=3).fit(spec_a := seeded_spec(), loader(), loader())
    stopped = trainer(framework, max_epochs=3)
    stopped.on(Event.BATCH_END(once=8), lambda run: run.stop())
    assert stopped.fit(seeded_spec(), loader(), loader()).stopped_by == "user"
    stopped.save_checkpoint(tmp_path / "run.ckpt")
    other = spec()
    result = go_on(tmp_path / "run.ckpt", other, framework)
    assert result.history == expected.history
    assert not differences(dict(spec_a.model.state_dict()), dict(other.model.state_dict()))


def test_a_checkpoint_of_an_evaluation_is_refused():
    made = trainer()
    made.on(Event.VAL_BATCH_END, lambda run: run.write_saves())
    with pytest.raises(ConfigError, match="only be saved during a fit"):
        made.validate(spec(), loader())
