"""What newer releases of Lightning renamed or removed."""

from textwrap import dedent, indent

import pytest

from tests.migrate.checks import check_noop, check_person, check_transformed, migrated, told
from unitrain_lightning.removed_hooks import BY_HAND, RENAMES


def construction(before, after, rule):
    """The arguments of a Trainer become others, in native= if unitrain has none of the name."""
    native = {"enable_model_summary", "enable_checkpointing", "use_distributed_sampler"}
    given = [one for one in after.split(", ") if one]
    foreign = [one for one in given if one.partition("=")[0] in native]
    pairs = ", ".join('"{}": {}'.format(*one.split("=")) for one in foreign)
    parts = ['framework="lightning"', *(one for one in given if one not in foreign)]
    parts += [f'native={{"lightning": {{{pairs}}}}}'] if foreign else []
    check_transformed(
        f"import pytorch_lightning as pl\npl.Trainer({before}).fit(m)\n",
        f"import pytorch_lightning as pl\nfrom unitrain import UnifiedTrainer\nUnifiedTrainer({', '.join(parts)}).fit(m)\n",
        rule=rule,
    )


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("gpus=0", 'accelerator="cpu"', "lightning-devices"),
        ("gpus=None", 'accelerator="cpu"', "lightning-devices"),
        ("gpus=2", 'accelerator="gpu", devices=2', "lightning-devices"),
        ("gpus=[0]", 'accelerator="gpu", devices=[0]', "lightning-devices"),
        ("gpus=1 if cuda() else 0", 'accelerator="gpu" if cuda() else "cpu", devices=1', "lightning-devices"),
        ("gpus=args.gpus", 'accelerator="gpu" if args.gpus else "cpu", devices=args.gpus or 1', "lightning-devices"),
        ('gpus=1, accelerator="gpu"', 'devices=1, accelerator="gpu"', "lightning-devices"),
        ("tpu_cores=None", "", "lightning-devices"),
        ("num_processes=2", 'accelerator="cpu", devices=2', "lightning-devices"),
        ("auto_select_gpus=False", "", "lightning-devices"),
        ('gpus=1, accelerator="ddp"', 'accelerator="gpu", devices=1, strategy="ddp"', "lightning-strategy"),
        ('gpus=1, distributed_backend="ddp"', 'accelerator="gpu", devices=1, strategy="ddp"', "lightning-strategy"),
        ("distributed_backend=None", "", "lightning-strategy"),
        ("progress_bar_refresh_rate=0", "enable_progress_bar=False", "lightning-display"),
        ("progress_bar_refresh_rate=20, max_epochs=1", "max_epochs=1", "lightning-display"),
        ("weights_summary=None", "enable_model_summary=False", "lightning-display"),
        ('weights_summary="top"', "enable_model_summary=True", "lightning-display"),
        ("show_progress_bar=False", "enable_progress_bar=False", "lightning-display"),
        ("checkpoint_callback=False", "enable_checkpointing=False", "lightning-checkpointing"),
        ("checkpoint_callback=keep", "callbacks=[keep]", "lightning-checkpointing"),
        ("callbacks=[a], checkpoint_callback=keep", "callbacks=[a, keep]", "lightning-checkpointing"),
        ("early_stop_callback=stop, max_epochs=1", "callbacks=[stop], max_epochs=1", "lightning-checkpointing"),
        ("early_stop_callback=False", "", "lightning-checkpointing"),
        ("checkpoint_callback=keep, early_stop_callback=stop", "callbacks=[keep, stop]", "lightning-checkpointing"),
        (
            "show_progress_bar=False, progress_bar_refresh_rate=0",
            "enable_progress_bar=False",
            "lightning-display",
        ),
        ("precision=16", 'precision="16-mixed"', "lightning-precision"),
        ('precision="bf16"', 'precision="bf16-mixed"', "lightning-precision"),
        ("precision=32", 'precision="32-true"', "lightning-precision"),
        ("use_amp=True", 'precision="16-mixed"', "lightning-precision"),
        ('amp_backend="native"', "", "lightning-precision"),
        ("max_nb_epochs=4", "max_epochs=4", "lightning-old-arguments"),
        ("train_percent_check=0.5", "limit_train_batches=0.5", "lightning-old-arguments"),
        ("row_log_interval=5", "log_every_n_steps=5", "lightning-old-arguments"),
        ("gradient_clip=1.0", "gradient_clip_val=1.0", "lightning-old-arguments"),
        ("nb_sanity_val_steps=0", "num_sanity_val_steps=0", "lightning-old-arguments"),
        ("replace_sampler_ddp=False", "use_distributed_sampler=False", "lightning-old-arguments"),
        ("terminate_on_nan=True", "detect_anomaly=True", "lightning-removed-arguments"),
        ("terminate_on_nan=False", "", "lightning-removed-arguments"),
        ("flush_logs_every_n_steps=10", "", "lightning-removed-arguments"),
        ("reload_dataloaders_every_epoch=True", "reload_dataloaders_every_n_epochs=1", "lightning-removed-arguments"),
        ("stochastic_weight_avg=False", "", "lightning-removed-arguments"),
        ("auto_lr_find=False, auto_scale_batch_size=None", "", "lightning-tuner"),
    ],
)
def test_arguments(before, after, rule):
    construction(before, after, rule)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ('strategy="dp"', "lightning-strategy"),
        ('gpus=2, distributed_backend="dp"', "lightning-strategy"),
        ("gpus=1, devices=2", "lightning-devices"),
        ("gpus=1, num_processes=2", "lightning-devices"),
        ("auto_lr_find=True", "lightning-tuner"),
        ('auto_scale_batch_size="power"', "lightning-tuner"),
        ('amp_backend="apex"', "lightning-precision"),
        ("stochastic_weight_avg=True", "lightning-removed-arguments"),
        ("terminate_on_nan=flag", "lightning-removed-arguments"),
        ("track_grad_norm=2", "lightning-removed-arguments"),
        ("early_stop_callback=True", "lightning-checkpointing"),
        ("callbacks=mine, checkpoint_callback=keep", "lightning-checkpointing"),
    ],
)
def test_arguments_that_a_person_has_to_choose_for(given, rule):
    check_person(f"import pytorch_lightning as pl\npl.Trainer({given}).fit(m)\n", rule, 2)


def test_comments_of_dropped_arguments_stay():
    check_transformed(
        """\
        import pytorch_lightning as pl
        trainer = pl.Trainer(
            max_epochs=1,  # one
            flush_logs_every_n_steps=3,  # often
            weights_summary=None,  # quiet
        )
        """,
        """\
        import pytorch_lightning as pl
        from unitrain import UnifiedTrainer
        trainer = UnifiedTrainer(
            framework="lightning",
            max_epochs=1,  # one
            # often
            native={
                "lightning": {
                    "enable_model_summary": False,  # quiet
                },
            },
        )
        """,
    )


def test_resume_goes_to_the_fit():
    check_transformed(
        "import pytorch_lightning as pl\nt = pl.Trainer(max_epochs=2, resume_from_checkpoint=args.path)\nt.fit(m, d)\nt.test()\n",
        "import pytorch_lightning as pl\nfrom unitrain import UnifiedTrainer\n"
        't = UnifiedTrainer(framework="lightning", max_epochs=2)\nt.fit(m, d, ckpt_path=args.path)\nt.test()\n',
        rule="lightning-resume",
    )
    check_person("import pytorch_lightning as pl\nt = pl.Trainer(resume_from_checkpoint=p)\n", "lightning-resume", 2)
    check_person(
        "import pytorch_lightning as pl\nt = pl.Trainer(resume_from_checkpoint=p)\nt.fit(m, ckpt_path=q)\n",
        "lightning-resume",
    )


MODULE = """\
import pytorch_lightning as pl
import torch


class Model(pl.LightningModule):
{}
"""


HOOKS = {"lightning-hooks"}


def written(text):
    return MODULE.format(indent(dedent(text).strip("\n"), "    "))


def module(before, after, rule, behaviour=HOOKS):
    check_transformed(written(before), written(after), rule=rule, behaviour=behaviour)


def module_person(text, rule, behaviour=HOOKS):
    check_person(written(text), rule, behaviour=behaviour)


def test_epoch_end_with_outputs():
    module(
        '''
        def training_epoch_end(self, outputs) -> None:
            """Say it."""
            mean = torch.stack([one["loss"] for one in outputs]).mean()  # mean
            self.log("mean", mean)

        def validation_epoch_end(self, outs):
            # nothing is read
            print("end")
        ''',
        '''
        def on_train_epoch_start(self):
            self.training_step_outputs = []

        def on_train_batch_end(self, outputs, batch, batch_idx):
            if outputs:
                self.training_step_outputs.append(outputs)

        def on_train_epoch_end(self) -> None:
            """Say it."""
            outputs = self.training_step_outputs
            mean = torch.stack([one["loss"] for one in outputs]).mean()  # mean
            self.log("mean", mean)

        def on_validation_epoch_start(self):
            self.validation_step_outputs = []

        def on_validation_batch_end(self, outputs, batch, batch_idx):
            if outputs is not None:
                self.validation_step_outputs.append(outputs)

        def on_validation_epoch_end(self):
            # nothing is read
            print("end")
        ''',
        "lightning-epoch-end",
    )


def test_epoch_end_beside_hooks_that_are_there():
    module(
        """
        def on_test_epoch_start(self):
            self.n = 0

        def on_test_batch_end(self, result, batch, batch_idx):
            self.n += 1

        @torch.no_grad()
        def test_epoch_end(self, outputs):
            print(len(outputs))
        """,
        """
        def on_test_epoch_start(self):
            self.test_step_outputs = []
            self.n = 0

        def on_test_batch_end(self, result, batch, batch_idx):
            if result is not None:
                self.test_step_outputs.append(result)
            self.n += 1

        @torch.no_grad()
        def on_test_epoch_end(self):
            outputs = self.test_step_outputs
            print(len(outputs))
        """,
        "lightning-epoch-end",
    )


def test_epoch_end_beside_hooks_that_are_renamed():
    module(
        """
        def on_epoch_start(self):
            print("start")

        def training_epoch_end(self, outputs):
            print(len(outputs))
        """,
        """
        def on_train_epoch_start(self):
            self.training_step_outputs = []
            print("start")

        def on_train_batch_end(self, outputs, batch, batch_idx):
            if outputs:
                self.training_step_outputs.append(outputs)

        def on_train_epoch_end(self):
            outputs = self.training_step_outputs
            print(len(outputs))
        """,
        "lightning-epoch-end",
    )
    module_person("def on_epoch_end(self): pass\ndef training_epoch_end(self, outs): pass", "lightning-epoch-end")


@pytest.mark.parametrize(
    "text",
    [
        "def validation_step(self, b, i, dataloader_idx): pass\ndef validation_epoch_end(self, outputs): pass",
        "def training_epoch_end(self, outputs): pass\ndef on_train_epoch_end(self): pass",
        "def training_epoch_end(self, outputs):\n    super().training_epoch_end(outputs)",
        "def training_epoch_end(self, outputs, more):\n    pass",
    ],
)
def test_epoch_end_that_is_left_for_a_person(text):
    module_person(text, "lightning-epoch-end")


def test_epoch_output_is_not_imported_any_more():
    check_transformed(
        """\
        import pytorch_lightning as pl
        from pytorch_lightning.utilities.types import EPOCH_OUTPUT

        class Model(pl.LightningModule):
            def on_test_epoch_start(self): pass

            def test_epoch_end(self, outputs: EPOCH_OUTPUT):
                pass
        """.replace("def on_test_epoch_start(self): pass", "x = 1"),
        """\
        import pytorch_lightning as pl

        class Model(pl.LightningModule):
            x = 1

            def on_test_epoch_start(self):
                self.test_step_outputs = []

            def on_test_batch_end(self, outputs, batch, batch_idx):
                if outputs is not None:
                    self.test_step_outputs.append(outputs)

            def on_test_epoch_end(self):
                pass
        """,
    )


def test_values_under_log_are_told_of_and_hold_nothing_up():
    text = """
    import pytorch_lightning as pl

    class Model(pl.LightningModule):
        def training_step(self, b, i):
            return {"loss": self(b), "log": {}}

    pl.Trainer().fit(Model())
    """
    outcome = migrated(text)
    assert "UnifiedTrainer(" in outcome.text
    assert (6, "lightning-returned-log", "note") in told(outcome)


HEIRS = """

class Heir(Model):
    def forward(self, x):
        return x


class Last(Heir):
    def on_train_epoch_start(self) -> None:{}
        print("start")

    def on_train_batch_end(self, outputs, batch, i):
        super().on_train_batch_end(outputs, batch, i)
"""


def test_epoch_end_of_a_class_whose_heir_has_the_hooks():
    text = MODULE.format("    def training_epoch_end(self, outputs):\n        print(len(outputs))") + HEIRS.format("")
    outcome = migrated(text)
    assert outcome.text.endswith(HEIRS.format("\n        super().on_train_epoch_start()"))
    assert "self.training_step_outputs = []" in outcome.text
    assert not migrated(outcome.text).told


OPTIMIZER_STEP = """
def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_native_amp=None):
    super().optimizer_step(epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_native_amp=False)
"""
OPTIMIZER_STEP_NOW = """
def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
    super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
"""
OTHER_STEP = """
def optimizer_step(self, epoch, i, optimizer, optimizer_idx, second_order_closure=None):
    optimizer.step(closure=second_order_closure)
"""


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("def on_epoch_end(self): pass", "def on_train_epoch_end(self): pass", "lightning-hooks"),
        (
            "def on_batch_start(self, batch, i): pass",
            "def on_train_batch_start(self, batch, i): pass",
            "lightning-hooks",
        ),
        (
            "def on_train_epoch_end(self, outputs): pass",
            "def on_train_epoch_end(self): pass",
            "lightning-hook-parameters",
        ),
        (
            "def on_train_batch_end(self, o, b, i, dataloader_idx): print(dataloader_idx)",
            "def on_train_batch_end(self, o, b, i, dataloader_idx=0): print(dataloader_idx)",
            "lightning-hook-parameters",
        ),
        (
            "def f(self): self.hparams = vars(args)",
            "def f(self): self.save_hyperparameters(vars(args))",
            "lightning-hparams",
        ),
        ("def f(self): self.log('x', 1, tbptt_pad_token=0)", "def f(self): self.log('x', 1)", "lightning-log"),
        (
            "def f(self): return self.trainer.running_sanity_check",
            "def f(self): return self.trainer.sanity_checking",
            "lightning-attributes",
        ),
        (
            "def f(self): return self.trainer.get_model().x",
            "def f(self): return self.trainer.lightning_module.x",
            "lightning-attributes",
        ),
        (
            "@pl.data_loader\ndef train_dataloader(self): pass",
            "def train_dataloader(self): pass",
            "lightning-data-loader",
        ),
        (OPTIMIZER_STEP, OPTIMIZER_STEP_NOW, "lightning-optimizer-step"),
        (OTHER_STEP, OTHER_STEP.replace(", optimizer_idx", ""), "lightning-optimizer-step"),
    ],
)
def test_modules(before, after, rule):
    module(before, after, rule)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("def training_step(self, batch, batch_idx, optimizer_idx): pass", "lightning-optimizer-idx"),
        ("def on_epoch_end(self): pass\ndef on_train_epoch_end(self): pass", "lightning-hooks"),
        ("def on_train_epoch_end(self, outputs): print(outputs)", "lightning-hook-parameters"),
        ("def f(self): return self.trainer.root_gpu", "lightning-attributes"),
        ("def f(self): return self.use_amp", "lightning-attributes"),
        ("def f(self): self.log('x', 1, sync_dist_op='sum')", "lightning-log"),
        (
            "def optimizer_step(self, epoch, i, optimizer, optimizer_idx, closure):\n    if optimizer_idx: optimizer.step(closure)",
            "lightning-optimizer-step",
        ),
    ],
)
def test_modules_that_are_left_for_a_person(text, rule):
    module_person(text, rule)


def test_modules_of_today_are_left():
    check_noop(
        MODULE.format(
            """
    def __init__(self, lr):
        super().__init__()
        self.save_hyperparameters()
        self.use_amp = False

    def training_step(self, batch, batch_idx):
        self.log("x", 1, on_step=True, sync_dist=True)
        return self.trainer.global_step, self.use_amp

    def on_train_epoch_end(self): pass

    def on_validation_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0): pass

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        optimizer.step(optimizer_closure)

    def val_dataloader(self): return [1, 2]
"""
        )
    )


def test_callbacks():
    check_transformed(
        """\
        from pytorch_lightning.callbacks import Callback

        class Mine(Callback):
            def on_batch_end(self, trainer, pl_module): print(trainer.proc_rank)
            def on_epoch_start(self, trainer, pl_module): pass
            def on_train_epoch_end(self, trainer, pl_module, outputs): pass
        """,
        """\
        from pytorch_lightning.callbacks import Callback

        class Mine(Callback):
            def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx): print(trainer.global_rank)
            def on_train_epoch_start(self, trainer, pl_module): pass
            def on_train_epoch_end(self, trainer, pl_module): pass
        """,
        behaviour=HOOKS,
    )
    check_person(
        "from pytorch_lightning import Callback\nclass C(Callback):\n    def on_init_end(self, trainer): pass\n"
        "    def on_init_start(self, trainer): pass\n",
        "lightning-hooks",
        4,
        behaviour=HOOKS,
    )


@pytest.mark.parametrize("name", sorted(BY_HAND))
@pytest.mark.parametrize("base", ["Callback", "LightningModule"])
def test_a_hook_that_is_never_called_is_told(base, name):
    text = f"import pytorch_lightning as pl\nclass C(pl.{base}):\n    def {name}(self, *given): pass\n"
    outcome = migrated(text)
    assert told(outcome) == [(3, "lightning-hooks", "behaviour")]
    assert f"no longer calls the hook {name}" in outcome.told[0].finding.reason
    assert outcome.told[0].finding.fix == f"left as it is; put it into {RENAMES[name]} by hand"
    check_person(text, "lightning-hooks", 3, behaviour=HOOKS)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "from pytorch_lightning.core.lightning import LightningModule",
            "from pytorch_lightning import LightningModule",
        ),
        (
            "from pytorch_lightning.callbacks.base import Callback as C",
            "from pytorch_lightning.callbacks import Callback as C",
        ),
        (
            "from pytorch_lightning.loggers.base import LightningLoggerBase",
            "from pytorch_lightning.loggers.logger import Logger as LightningLoggerBase",
        ),
        (
            "from pytorch_lightning.logging import TensorBoardLogger",
            "from pytorch_lightning.loggers import TensorBoardLogger",
        ),
        (
            "from pytorch_lightning.utilities.seed import seed_everything",
            "from pytorch_lightning import seed_everything",
        ),
        (
            "from pytorch_lightning.utilities.distributed import rank_zero_only, rank_zero_info",
            "from pytorch_lightning.utilities import rank_zero_only\nfrom pytorch_lightning.utilities import rank_zero_info",
        ),
        ("from pytorch_lightning.metrics import MeanSquaredError", "from torchmetrics import MeanSquaredError"),
        (
            "import pytorch_lightning as pl\nx = pl.callbacks.base.Callback",
            "import pytorch_lightning as pl\nx = pl.callbacks.Callback",
        ),
    ],
)
def test_names_that_moved(before, after):
    check_transformed(f"{before}\n", f"{after}\n")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("from pytorch_lightning.metrics import Accuracy", "lightning-metrics"),
        ("import pytorch_lightning as pl\npl.metrics.Accuracy()", "lightning-metrics"),
        ("from pytorch_lightning import metrics", "lightning-metrics"),
        ("from pytorch_lightning.loggers import TestTubeLogger", "lightning-gone"),
        ("from pytorch_lightning.utilities.cli import LightningCLI", "lightning-cli"),
        ("from lightning.pytorch.cli import LightningCLI", "lightning-cli"),
        ("import hydra\nimport lightning as L\ntrainer = hydra.utils.instantiate(cfg.train)", "lightning-hydra"),
    ],
)
def test_names_that_are_gone(text, rule):
    check_person(f"{text}\n", rule)


def test_what_is_of_today_is_left():
    check_noop("from pytorch_lightning.callbacks import Callback, EarlyStopping\nfrom torchmetrics import Accuracy\n")
    check_noop("import hydra\nimport lightning as L\nmodel = hydra.utils.instantiate(cfg.model)\n")
    check_noop("from mine.metrics import Accuracy\nfrom lightning import LightningModule\n")


def test_amp():
    check_transformed(
        "import lightning\nfrom torch.cuda.amp import autocast, GradScaler\nwith autocast(): pass\nscaler = GradScaler(enabled=x)\n",
        'import lightning\nfrom torch.amp import autocast, GradScaler\nwith autocast("cuda"): pass\nscaler = GradScaler("cuda", enabled=x)\n',
        rule="torch-amp",
    )
    check_transformed(
        "import torch, ignite\nwith torch.cuda.amp.autocast(True): pass\n",
        'import torch, ignite\nwith torch.amp.autocast("cuda", enabled=True): pass\n',
        rule="torch-amp",
    )
    check_transformed(
        "import torch, ignite\nfrom torch.cuda.amp import autocast\nwith autocast(): pass\nwith torch.cuda.amp.autocast(): pass\n",
        'import torch, ignite\nfrom torch.amp import autocast\nwith autocast("cuda"): pass\nwith torch.amp.autocast("cuda"): pass\n',
        rule="torch-amp",
    )
    check_noop('import torch, ignite\nwith torch.amp.autocast("cuda"): pass\nwith torch.autocast("cpu"): pass\n')


def test_a_disabled_rule_does_not_act():
    text = "import lightning as L\nL.Trainer(precision=16, logger=False)\n"
    assert (
        'UnifiedTrainer(framework="lightning", precision=16,' in migrated(text, disabled={"lightning-precision"}).text
    )
    outcome = migrated("import lightning\nfrom torch.cuda.amp import autocast\nautocast()\n", disabled={"torch-amp"})
    assert "torch.cuda.amp" in outcome.text
    outcome = migrated("import lightning as L\nL.Trainer(gpus=1)\n", disabled={"lightning-devices"})
    assert [one.finding.rule for one in outcome.told] == ["lightning-devices"]
    assert "disabled" in outcome.told[0].finding.reason
    assert outcome.text.endswith("L.Trainer(gpus=1)\n")
