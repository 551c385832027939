"""There and back: what goes through the form of another framework comes back to the run that it came from."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR

from unitrain import CheckpointError, Event, TrainSpec, UnifiedTrainer, convert_checkpoint, load_weights
from unitrain.checkpoint import io
from unitrain.testing.models import loader, tensors
from unitrain.testing.trace import differences

FRAMEWORKS = ["reference", "lightning", "ignite"]
GOLDEN = Path(__file__).parent / "golden"


def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(36, 12), nn.Tanh(), nn.Linear(12, 5))


def single():
    return TrainSpec(
        model=net(),
        loss=nn.CrossEntropyLoss(),
        optimizer=partial(torch.optim.AdamW, lr=0.01),
        lr_scheduler=partial(StepLR, step_size=1, gamma=0.5),
    )


def coupled(run, batch):
    """Step one optimizer with each batch, the other with each second one, without drawing a random number."""
    code = run.model["gen"](batch[0])
    run.backward(nn.functional.cross_entropy(run.model["disc"](code), batch[1]))
    run.step("disc")
    if run.state.batch % 2:
        run.step("gen")


def double():
    torch.manual_seed(3)
    return TrainSpec(
        model=nn.ModuleDict({"gen": nn.Linear(36, 12), "disc": nn.Linear(12, 5)}),
        optimizer={"gen": partial(torch.optim.Adam, lr=0.01), "disc": partial(torch.optim.Adam, lr=0.02)},
        lr_scheduler={"gen": partial(StepLR, step_size=1, gamma=0.5)},
        training_step=coupled,
        automatic_optimization=False,
    )


def data():
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors()), batch_size=4)


RUNS = {
    "one optimizer": (single, {}),
    "accumulated": (single, {"accumulate_grad_batches": 3}),
    "scaled": (single, {"precision": "16-mixed"}),
    "two optimizers": (double, {}),
}


def trained(make, options, path, after, framework="ignite"):
    """Train three epochs of six batches, with a checkpoint after ``after`` of them."""
    spec = make()
    trainer = UnifiedTrainer(framework, max_epochs=3, enable_progress_bar=False, **options)
    trainer.on(Event.BATCH_END(once=after), lambda run: run.save_checkpoint(path))
    trainer.fit(spec, data())
    return dict(spec.model.state_dict())


def gone_on(make, options, path, framework, given=None):
    spec = make()
    trainer = UnifiedTrainer(framework, max_epochs=3, seed=5, enable_progress_bar=False, **options)
    result = trainer.fit(spec, given or data(), ckpt_path=path)
    return dict(spec.model.state_dict()), result.step


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("through", ["lightning", "ignite"])
@pytest.mark.parametrize("kind", RUNS)
def test_there_and_back(kind, through, framework, tmp_path):
    make, options = RUNS[kind]
    whole = trained(make, options, tmp_path / "run.ckpt", 12)
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "there", to=through, template=make())
    convert_checkpoint(tmp_path / "there", tmp_path / "back.ckpt", to="portable", template=make())
    back, steps = gone_on(make, options, tmp_path / "back.ckpt", framework)
    assert not differences(whole, back)
    before, after = io.read(tmp_path / "run.ckpt"), io.read(tmp_path / "back.ckpt")
    assert not differences(before["optimizer_states"], after["optimizer_states"])
    assert before["loops"] == after["loops"] if len(before["optimizer_states"]) == 1 else True
    counted = [one["unitrain"]["hub"] for one in (before, after)]
    assert [(hub["step"], hub["batch"], hub["epoch"]) for hub in counted] == [(steps - steps // 3, 12, 1)] * 2
    assert before["global_step"] == after["global_step"]
    scalers = [one["unitrain"]["progress"]["scaler"] for one in (before, after)]
    assert scalers[0] == scalers[1]
    assert (scalers[0] is not None) is (kind == "scaled")


@pytest.mark.parametrize("through", ["lightning", "ignite"])
@pytest.mark.filterwarnings("ignore:.*was written mid-epoch")
def test_there_and_back_from_the_midst_of_an_epoch(through, tmp_path):
    whole = trained(single, {}, tmp_path / "run.ckpt", 8)
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "there", to=through)
    left = convert_checkpoint(tmp_path / "there", tmp_path / "back.ckpt", to="portable", template=single())
    assert any("2 batches of a new order are skipped" in line for line in left)
    for framework in FRAMEWORKS:
        assert not differences(whole, gone_on(single, {}, tmp_path / "back.ckpt", framework)[0])


@pytest.mark.parametrize("after", [8, 12])
@pytest.mark.filterwarnings("ignore:.*was written mid-epoch")
def test_a_shuffled_run_without_its_random_numbers_goes_on_alike_everywhere(after, tmp_path):
    """Not as it would have: the order is drawn from the run's own seed. On every backend it is the same one."""
    trained(single, {}, tmp_path / "run.ckpt", after)
    convert_checkpoint(tmp_path / "run.ckpt", tmp_path / "there", to="ignite")
    convert_checkpoint(tmp_path / "there", tmp_path / "back.ckpt", to="portable")
    ends = [gone_on(single, {}, tmp_path / "back.ckpt", one, loader(shuffle=True))[0] for one in FRAMEWORKS]
    assert not differences(ends[0], ends[1])
    assert not differences(ends[0], ends[2])
    assert differences(ends[0], gone_on(single, {}, tmp_path / "back.ckpt", "reference")[0])


@pytest.mark.parametrize("form", ["bare", "safetensors", "ignite"])
def test_weights_alone_are_what_a_run_begins_from(form, tmp_path):
    weights = trained(single, {}, tmp_path / "run.ckpt", 12)
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        convert_checkpoint(tmp_path / "run.ckpt", path, to="safetensors")
    else:
        torch.save(weights if form == "bare" else {"net": weights}, path)
    weights = load_weights(path) if form == "safetensors" else weights
    with pytest.raises(CheckpointError, match="only contains weights"):
        convert_checkpoint(path, tmp_path / "begin.ckpt", to="portable")
    left = convert_checkpoint(path, tmp_path / "begin.ckpt", to="portable", template=single())
    assert any("it starts from the beginning with these weights" in line for line in left)
    begun = single()
    begun.model.load_state_dict(weights)
    UnifiedTrainer("reference", max_epochs=3, enable_progress_bar=False).fit(begun, data())
    for framework in FRAMEWORKS:
        end, steps = gone_on(single, {}, tmp_path / "begin.ckpt", framework)
        assert steps == 18
        assert not differences(dict(begun.model.state_dict()), end)


@pytest.mark.parametrize("to", ["lightning", "ignite", "safetensors"])
def test_bare_weights_in_the_forms_of_others(to, tmp_path):
    torch.save(net().state_dict(), tmp_path / "w.pt")
    path = tmp_path / ("w.safetensors" if to == "safetensors" else "w.ckpt")
    left = convert_checkpoint(tmp_path / "w.pt", path, to=to)
    assert "everything but the weights" in left[-1]
    content = load_weights(path) if to == "safetensors" else torch.load(path, weights_only=True)
    found = {key.removeprefix("model."): one for key, one in content.get("state_dict", content).items()}
    assert not differences(dict(net().state_dict()), found)


def test_a_file_of_old_torch_is_read(tmp_path):
    torch.save(dict(net().state_dict()), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    convert_checkpoint(tmp_path / "old.pt", tmp_path / "w.safetensors", to="safetensors")
    assert not differences(dict(net().state_dict()), load_weights(tmp_path / "w.safetensors"))


def test_what_ignites_own_schedules_keep_is_told(tmp_path):
    from ignite.handlers import LinearCyclicalScheduler

    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    schedule = LinearCyclicalScheduler(optimizer, "lr", 0.1, 0.2, 10)
    engine = {"epoch_length": 6, "max_epochs": 3, "iteration": 12}
    content = {"model": net().state_dict(), "optimizer": optimizer.state_dict(), "trainer": engine}
    torch.save({**content, "schedule": schedule.state_dict()}, tmp_path / "a.pt")
    left = convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable")
    assert "'schedule', whose meaning is unknown" in left
    assert any("count of optimizer steps" in line for line in left), "SGD does not count"


def test_the_trainers_epoch_and_other_engines(tmp_path):
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1)
    content = {"model": net().state_dict(), "optimizer": optimizer.state_dict()}
    engines = {name: {"epoch_length": 6, "max_epochs": 3, "epoch": 2} for name in ("trainer", "evaluator")}
    torch.save({**content, **engines}, tmp_path / "a.pt")
    left = convert_checkpoint(tmp_path / "a.pt", tmp_path / "b.ckpt", to="portable")
    assert "'evaluator': the state of another engine" in left
    assert io.read(tmp_path / "b.ckpt")["unitrain"]["hub"]["batch"] == 12
    torch.save({**content, "one": engines["trainer"], "two": engines["trainer"]}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="several engines, 'one', 'two'"):
        convert_checkpoint(tmp_path / "c.pt", tmp_path / "d.ckpt", to="portable")


class Module(pl.LightningModule):
    """The same training in plain Lightning, with a file from each of the moments at which one is written."""

    def __init__(self, folder):
        super().__init__()
        self.body, self.folder = net(), folder

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.body(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val", nn.functional.cross_entropy(self.body(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.body.named_parameters(), lr=0.01)
        return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]

    def save(self, moment, epoch=1):
        if self.folder is not None and self.trainer.current_epoch == epoch:
            self.trainer.save_checkpoint(self.folder / f"{moment}.ckpt")

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if batch_idx == 3:
            self.save("batch")

    def on_validation_end(self):
        self.save("validation")

    def on_train_epoch_end(self):
        self.save("epoch")


QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(scope="module")
def of_lightning(tmp_path_factory):
    """Return a folder with files of today's Lightning, and the weights that three epochs lead to."""
    folder = tmp_path_factory.mktemp("lightning")
    first, whole = Module(folder), Module(None)
    options = {"accelerator": "cpu", "num_sanity_val_steps": 0, **QUIET}
    trainer = pl.Trainer(max_epochs=2, **options)
    trainer.fit(first, data(), data())
    trainer.save_checkpoint(folder / "end.ckpt")
    pl.Trainer(max_epochs=3, **options).fit(whole, data(), data())
    return folder, dict(whole.body.state_dict())


@pytest.mark.parametrize("moment", ["batch", "validation", "epoch", "end"])
def test_todays_lightning_at_each_moment(moment, of_lightning, tmp_path):
    folder, whole = of_lightning
    left = convert_checkpoint(folder / f"{moment}.ckpt", tmp_path / "run.ckpt", to="portable", template=single())
    assert any("the very end of its epoch" in line for line in left) is (moment == "validation")
    assert not any("position" in line for line in left), "torch wrote the names of the parameters"
    end, steps = gone_on(single, {}, tmp_path / "run.ckpt", "ignite")
    assert steps == 18
    assert not differences(whole, end)


_WITHOUT = """
import sys
sys.modules["pytorch_lightning"] = sys.modules["lightning"] = None
import unitrain
unitrain.convert_checkpoint(f"{sys.argv[1]}/lightning-2.5.6.ckpt", sys.argv[2], to="ignite", part="net")
try:
    unitrain.convert_checkpoint(f"{sys.argv[1]}/lightning-1.9.5.ckpt", sys.argv[2] + "2", to="ignite", part="net")
except unitrain.CheckpointError as error:
    print(error)
"""


def test_without_lightning_only_old_files_are_refused(tmp_path):
    command = [sys.executable, "-c", _WITHOUT, str(GOLDEN), str(tmp_path / "x.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "written by Lightning 1.9.5; Lightning itself can upgrade" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
