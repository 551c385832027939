"""Whole scripts: each is rewritten, and the rewritten one does the same on both backends, step by step."""

import runpy
import sys

import ignite.engine  # noqa: F401 - an import within a run may draw from a generator, and is no part of a script
import pytest
import pytorch_lightning  # noqa: F401 - as above

import unitrain_ignite.adapter  # noqa: F401 - as above
import unitrain_lightning.adapter  # noqa: F401 - as above
from tests.bridges.running import HOMES, PATHS, home_of, natively, run
from tests.bridges.trace import difference, unproved
from tests.migrate.checks import migrated
from unitrain.migrate.findings import Severity

FAST = {"lightning": {"mlp_classifier"}, "ignite": {"stopping"}}
OTHER = dict(zip(HOMES, reversed(HOMES), strict=True))


def name(path):
    return f"{home_of(path)}-{path.stem}"


def tiered(path, backend):
    fast = path.stem in FAST[home_of(path)] and backend != home_of(path)
    return pytest.param(path, backend, id=f"{name(path)}-on-{backend}", marks=() if fast else pytest.mark.slow)


def rewritten(path, backend, folder):
    """Return the rewritten script, in a folder of its own under the name that it had."""
    made = folder / path.name
    made.write_text(migrated(path.read_text(), backend).text)
    return made


@pytest.mark.parametrize("path", PATHS, ids=map(name, PATHS))
def test_every_script_is_rewritten_and_stays_so(path):
    outcome = migrated(path.read_text(), OTHER[home_of(path)])
    assert not outcome.has(Severity.PERSON), [str(one) for one in outcome.told]
    assert f'framework="{OTHER[home_of(path)]}"' in outcome.text
    again = migrated(outcome.text, OTHER[home_of(path)])
    assert again.text == outcome.text
    assert not again.told


@pytest.mark.parametrize(("path", "backend"), [tiered(path, one) for path in PATHS for one in HOMES])
def test_the_rewritten_script_does_the_same(path, backend, tmp_path):
    script = rewritten(path, backend, tmp_path)
    wanted, got = natively(path), natively(script)
    assert not difference(wanted, got)
    assert not unproved(got, backend, wanted)


FAULTS = {
    "lightning-mlp_classifier": ("max_epochs=", "max_epochs=1 + 0 * "),
    "ignite-stopping": ("from_engine(engine, max_iters=7)", "from_engine(engine, max_iters=8)"),
}


@pytest.mark.parametrize("path", [path for path in PATHS if name(path) in FAULTS], ids=name)
def test_a_fault_in_what_is_written_is_noticed(path, tmp_path):
    script = rewritten(path, home_of(path), tmp_path)
    before, after = FAULTS[name(path)]
    assert before in script.read_text()
    script.write_text(script.read_text().replace(before, after, 1))
    assert difference(natively(path), natively(script))


OLD = """\
import torch
import pytorch_lightning as pl
from torch.utils.data import DataLoader, TensorDataset


class Model(pl.LightningModule):
    def __init__(self, hparams):
        super().__init__()
        self.hparams = hparams
        self.layer = torch.nn.Linear(4, 2)

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])
        return {"loss": loss, "seen": len(batch[0])}

    def training_epoch_end(self, outputs):
        print([round(one["loss"].item(), 6) for one in outputs], sum(one["seen"] for one in outputs))

    def validation_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def validation_epoch_end(self, outputs):
        self.log("val_loss", torch.stack(outputs).mean())

    def on_epoch_start(self):
        print("epoch", self.current_epoch, self.trainer.proc_rank)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_native_amp, using_lbfgs):
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_native_amp, using_lbfgs)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


def main():
    pl.utilities.seed.seed_everything(1)
    data = TensorDataset(torch.randn(24, 4), torch.randint(2, (24,)))
    trainer = pl.Trainer(
        max_nb_epochs=2,
        gpus=0,
        checkpoint_callback=False,
        logger=False,
        progress_bar_refresh_rate=0,
        weights_summary=None,
        terminate_on_nan=False,
    )
    from argparse import Namespace

    trainer.fit(Model(Namespace(lr=0.1)), train_dataloader=DataLoader(data, 8, shuffle=True), val_dataloaders=DataLoader(data, 8))
    print(trainer.callback_metrics["val_loss"].item(), sorted(trainer.test(dataloaders=DataLoader(data, 8), verbose=False)[0]))


if __name__ == "__main__":
    main()
"""


def test_a_script_of_old_lightning_runs_on_both(tmp_path):
    """It ran with Lightning 1.x; what is written runs with the installed one, alike on both backends."""
    text = OLD.replace(", sorted(trainer.test(dataloaders=DataLoader(data, 8), verbose=False)[0])", "")
    traces = {}
    for backend in HOMES:
        outcome = migrated(text, backend)
        assert not outcome.has(Severity.PERSON), [str(one) for one in outcome.told]
        (tmp_path / backend).mkdir()
        script = tmp_path / backend / "old.py"
        script.write_text(outcome.text)
        traces[backend] = run(script, lambda: runpy.run_path(sys.argv[0], run_name="__main__"))
        assert traces[backend].error is None
    assert not difference(*traces.values())
    assert len(traces["ignite"].steps) == 6
    assert not unproved(traces["ignite"], "ignite", traces["lightning"])
    printed = "".join(str(event) for event in traces["ignite"].events)
    assert ", 24" in printed or " 24" in printed, printed  # what was kept of the epoch's steps
