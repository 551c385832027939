"""What is put into a file is indented as the file is."""

import pytest

from tests.migrate.checks import check_transformed

BEFORE = """\
from pytorch_lightning import LightningModule, Trainer
class M(LightningModule):
\tdef training_step(self, batch, i):
\t\treturn self.loss(batch)
\tdef training_epoch_end(self, outputs):
\t\tprint(outputs)
def main(m):
\ttrainer = Trainer(max_epochs=3,  # x
\t                  logger=False)
\ttrainer.fit(m)
\tTrainer(
\t\tlogger=[
\t\t\tx
\t\t],
\t\tenable_checkpointing=False,
\t).fit(m)
"""
AFTER = """\
from pytorch_lightning import LightningModule
from unitrain import UnifiedTrainer
class M(LightningModule):
\tdef training_step(self, batch, i):
\t\treturn self.loss(batch)
\tdef on_train_epoch_start(self):
\t\tself.training_step_outputs = []

\tdef on_train_batch_end(self, outputs, batch, batch_idx):
\t\tif outputs:
\t\t\tself.training_step_outputs.append(outputs)

\tdef on_train_epoch_end(self):
\t\toutputs = self.training_step_outputs
\t\tprint(outputs)
def main(m):
\ttrainer = UnifiedTrainer(framework="lightning", max_epochs=3,  # x
\t\tnative={"lightning": {"logger": False}})
\ttrainer.fit(m)
\tUnifiedTrainer(
\t\tframework="lightning",
\t\tnative={
\t\t\t"lightning": {
\t\t\t\t"logger": [
\t\t\t\t\tx
\t\t\t\t],
\t\t\t\t"enable_checkpointing": False,
\t\t\t},
\t\t},
\t).fit(m)
"""


@pytest.mark.parametrize("step", ["\t", "  ", "    "])
def test_the_step_is_that_of_the_file(step):
    check_transformed(BEFORE.replace("\t", step), AFTER.replace("\t", step))
