"""What unitrain writes, on any backend, plain Lightning reads: to the same bits where it can, loudly where it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from unitrain import Event, TrainSpec, UnifiedTrainer
from unitrain.checkpoint import io
from unitrain.testing.models import tensors
from unitrain.testing.trace import differences

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no")
FRAMEWORKS = ["reference", "lightning", "ignite"]
QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
QUIET["num_sanity_val_steps"] = 0


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 5))


class Plain(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = net()

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.cross_entropy(self.model(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.model.parameters(), lr=0.01)


def data():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors()), batch_size=4)


def written(framework, path, after, val=None):
    spec = TrainSpec(model=net(), loss=nn.CrossEntropyLoss(), optimizer=lambda ps: torch.optim.AdamW(ps, lr=0.01))
    trainer = UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False)
    trainer.on(Event.BATCH_END(once=after), lambda run: run.save_checkpoint(path))
    trainer.fit(spec, data(), val)
    return spec


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_plain_lightning_goes_on_at_an_epoch_boundary_to_the_same_bits(framework, validated, tmp_path):
    val = data() if validated else None
    whole = Plain()
    pl.Trainer(max_epochs=3, **QUIET).fit(whole, data(), val)
    written(framework, tmp_path / "run.ckpt", 12, val)
    rest = Plain()
    trainer = pl.Trainer(max_epochs=3, **QUIET)
    trainer.fit(rest, data(), val, ckpt_path=tmp_path / "run.ckpt", weights_only=True)
    assert (trainer.current_epoch, trainer.global_step) == (3, 18)
    assert not differences(dict(whole.state_dict()), dict(rest.state_dict()))


class Noted(nn.Sequential):
    """A net with an extra state that plain torch would not read."""

    def __init__(self):
        super().__init__(*net())
        self.extra = {"seen": np.int64(3), "at": Path("a/b"), "scale": np.ones(2, "f4")}

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_plain_lightning_reads_what_was_numpys(framework, tmp_path):
    class Own(Plain):
        def __init__(self):
            super().__init__()
            self.model = Noted()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.model.parameters(), lr=0.01, betas=(0.8, 0.99))

    def optimizer(parameters):
        group = {"params": parameters, "betas": tuple(np.array([0.8, 0.99])), "kind": Path("x")}
        return torch.optim.AdamW([group], lr=np.float64(0.01))

    whole, rest, path = Own(), Own(), tmp_path / "run.ckpt"
    pl.Trainer(max_epochs=3, **QUIET).fit(whole, data())
    trainer = UnifiedTrainer(framework, max_epochs=2, enable_progress_bar=False)
    trainer.fit(TrainSpec(model=Noted(), loss=nn.CrossEntropyLoss(), optimizer=optimizer), data())
    trainer.save_checkpoint(path)
    pl.Trainer(max_epochs=3, **QUIET).fit(rest, data(), ckpt_path=path, weights_only=True)
    assert not differences(dict(whole.model.named_parameters()), dict(rest.model.named_parameters()))
    assert torch.equal(rest.model.extra.pop("scale"), torch.ones(2))
    assert rest.model.extra == {"seen": 3, "at": "a/b"}  # the plain forms


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_plain_lightning_fails_loudly_in_mid_epoch(framework, tmp_path):
    written(framework, tmp_path / "run.ckpt", after=8)
    with pytest.raises(RuntimeError, match="stateful loaders"):
        pl.Trainer(max_epochs=3, **QUIET).fit(Plain(), data(), ckpt_path=tmp_path / "run.ckpt", weights_only=True)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_load_from_checkpoint_takes_the_weights(framework, tmp_path):
    spec = written(framework, tmp_path / "run.ckpt", after=12)
    loaded = Plain.load_from_checkpoint(tmp_path / "run.ckpt", weights_only=True)
    assert not differences(dict(loaded.model.state_dict()), dict(spec.model.state_dict()))


def test_the_tree_of_loops_is_lightnings_own(tmp_path):
    """Key by key what Lightning itself writes at the same moment, but for what validation had counted."""
    written("ignite", tmp_path / "ours.ckpt", after=12)

    class Save(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "theirs.ckpt")

    pl.Trainer(max_epochs=2, callbacks=[Save()], **QUIET).fit(Plain(), data())
    ours, theirs = io.read(tmp_path / "ours.ckpt"), torch.load(tmp_path / "theirs.ckpt", weights_only=True)
    for name in ("epoch", "global_step", "optimizer_states"):
        assert not differences(ours[name], theirs[name], name)
    assert set(theirs) <= set(ours)
    manual = "epoch_loop.manual_optimization.optim_step_progress"  # plain Lightning counts on the other path
    for loop in theirs["loops"]:
        mine, other = dict(ours["loops"][loop]), dict(theirs["loops"][loop])
        mine.pop(manual, None), other.pop(manual, None)
        assert not differences(mine, other, loop)
